package agent

import (
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// overlayMetrics adds the other hosts, and how etcd is.
func (v *view) overlayMetrics(m *metrics.View) {
	named := make(map[string]int)
	for _, p := range v.result.Peers {
		named[p.Node]++
	}
	for _, p := range v.result.Peers {
		peer := metrics.Peer{Name: p.Node, Host: bpf.AddrKey{Addr: bpf.Addr(p.Via)}, State: string(p.Kind)}
		// One who does not say his name, or says another's, goes by his share of the network.
		if p.Node == "" || named[p.Node] > 1 {
			peer.Name = p.Subnet.String()
		}
		if p.Direct {
			peer.State = "direct"
		}
		m.Peers = append(m.Peers, peer)
	}
	if v.member == nil {
		return
	}
	c := v.member.Counts()
	m.Etcd = &metrics.Etcd{
		Connected: v.member.View().Connected, Errors: c.Errors, Lists: c.Lists, Renewals: c.Renewals, Rejected: c.Rejected,
	}
}

// publishedMetrics adds the published ports that lead to an endpoint.
func (v *view) publishedMetrics(m *metrics.View) {
	for _, p := range v.result.Ports {
		if !p.Active || p.Endpoint < 0 {
			continue
		}
		e := &v.result.Endpoints[p.Endpoint]
		name := e.Container
		if name == "" {
			name = e.Name
		}
		m.Published = append(m.Published, metrics.Published{
			Spec: p.Spec.String(), Container: name, Proto: policy.ProtoName(p.Spec.Proto), Slot: p.Slot,
		})
	}
}
