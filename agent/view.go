package agent

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/lease"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// view is what the run loop lets others see. It is not changed once published.
type view struct {
	result   policy.Result
	problems []string
	docker   bool
	overlay  *api.OverlayStatus // nil: this host is by itself
	member   *lease.Member      // nil: this host does not follow etcd
}

// publishView lets others see how things are now.
func (a *Agent) publishView() {
	v := &view{result: a.settled, docker: a.host.Observer.Docker(), overlay: a.overlayStatus(), member: a.overlay.member}
	for _, key := range []string{"reconcile", "datapath", "observe", "forwarding", "overlay", "policies", "policy", "metrics"} {
		v.problems = append(v.problems, a.problems[key]...)
	}
	a.view.Store(v)
}

// portRow shows a published port. Every address of the host is 0.0.0.0.
func portRow(p policy.PortView) api.Port {
	host := p.Spec.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	row := api.Port{
		HostIP:        host.String(),
		HostPort:      p.Spec.HostPort,
		HostEnd:       p.Spec.HostEnd,
		ContainerPort: p.Spec.Port,
		ContainerEnd:  p.Spec.End,
		Proto:         policy.ProtoName(p.Spec.Proto),
		Endpoint:      p.Target,
		Source:        p.Source,
		Active:        p.Active,
		Uplink:        p.Uplink,
	}
	var from []string
	for _, f := range p.From {
		from = append(from, f.String())
	}
	row.From = strings.Join(from, ",")
	if p.Address.IsValid() {
		row.Address = p.Address.String()
	}
	return row
}

func (v *view) ports() []api.Port {
	rows := make([]api.Port, len(v.result.Ports))
	for i, p := range v.result.Ports {
		rows[i] = portRow(p)
	}
	return rows
}

// endpointRow shows an endpoint without its counters.
func (v *view) endpointRow(e *policy.EndpointView) api.Endpoint {
	row := api.Endpoint{
		Name:        e.Name,
		Container:   e.Container,
		ID:          e.ContainerID,
		Bridge:      e.Bridge,
		Addresses:   make([]string, len(e.Addrs)),
		MAC:         e.MAC.String(),
		Veth:        e.Veth,
		VethIfindex: e.Index,
		PeerName:    e.PeerName,
		PeerIfindex: e.PeerIndex,
		Network:     e.Network,
		Shared:      e.Shared,
		Ports:       make([]api.Port, len(e.Ports)),
	}
	for i, addr := range e.Addrs {
		row.Addresses[i] = addr.String()
	}
	for i, p := range e.Ports {
		row.Ports[i] = portRow(v.result.Ports[p])
	}
	return row
}

// withCounters reads an endpoint's counters. While nothing is attached there are none.
func (a *Agent) withCounters(row api.Endpoint, slot uint16) (api.Endpoint, error) {
	var err error
	row.Counters, err = a.endpointCounters(slot)
	return row, err
}

// endpointCounters reads what stands in a slot: zeros while nothing is attached.
func (a *Agent) endpointCounters(slot uint16) (api.EndpointCounters, error) {
	a.tables.RLock()
	defer a.tables.RUnlock()
	if a.dp == nil {
		return api.EndpointCounters{}, nil
	}
	c, err := a.dp.EndpointStats(slot)
	return api.EndpointCounters{
		ReceivePackets: c.Rx.Packets, ReceiveBytes: c.Rx.Bytes, ReceiveDropped: c.RxDropped,
		TransmitPackets: c.Tx.Packets, TransmitBytes: c.Tx.Bytes, TransmitDropped: c.TxDropped,
	}, err
}

// MetricsView implements metrics.Source.
func (a *Agent) MetricsView() metrics.View {
	v := a.view.Load()
	m := metrics.View{DockerConnected: v.docker}
	for _, b := range v.result.Bridges {
		if b.Attached {
			m.Bridges = append(m.Bridges, metrics.Bridge{Name: b.Name, Mode: b.Mode, Slot: b.Slot})
		}
	}
	for i := range v.result.Endpoints {
		e := &v.result.Endpoints[i]
		name := e.Container
		if name == "" {
			name = e.Name
		}
		m.Endpoints = append(m.Endpoints, metrics.Endpoint{Container: name, Bridge: e.Bridge, Slot: e.Slot})
	}
	for _, p := range v.result.Ports {
		if p.Active {
			m.Ports += int(p.Spec.HostEnd) - int(p.Spec.HostPort) + 1
		}
	}
	if s := a.sweep.Load(); s != nil {
		m.Flows, m.Maps = s.flows, s.maps
		m.Sweeps, m.SweepTime = s.runs, s.took
		for k, n := range s.expired {
			m.Expired = append(m.Expired, metrics.FlowCount{Proto: k.proto, State: k.state, Count: n})
		}
	}
	if purged := a.purged.Load(); purged != nil {
		for proto, n := range *purged {
			m.Expired = append(m.Expired, metrics.FlowCount{Proto: proto, State: containerGone, Count: n})
		}
	}
	m.TicksPerSecond = a.host.Features.TicksPerSecond
	v.overlayMetrics(&m)
	v.publishedMetrics(&m)
	a.tables.RLock()
	if a.dp != nil {
		m.Counters = counters{a}
	}
	a.tables.RUnlock()
	return m
}

// bridgeStatus shows what is attached, and what is waited for.
func (v *view) bridgeStatus() []api.BridgeStatus {
	rows := make([]api.BridgeStatus, 0, len(v.result.Bridges))
	for _, b := range v.result.Bridges {
		row := api.BridgeStatus{
			Name: b.Name, Mode: b.Mode, Reason: b.Reason, Attached: b.Attached, Endpoints: b.Endpoints, Subnets: []string{}, Rules: "none",
			FailClosed: b.FailClosed, Spoofing: b.Spoofing,
		}
		for _, s := range b.Subnets {
			row.Subnets = append(row.Subnets, s.String())
		}
		if b.Docker {
			row.Rules = "docker"
		}
		rows = append(rows, row)
	}
	return rows
}

func (v *view) uplinkStatus(hook string) []api.UplinkStatus {
	rows := make([]api.UplinkStatus, 0, len(v.result.Uplinks))
	for _, u := range v.result.Uplinks {
		if !u.Attached || !slices.ContainsFunc(v.result.Bridges, func(b policy.BridgeView) bool { return b.Attached }) {
			continue
		}
		row := api.UplinkStatus{Name: u.Name, Hook: hook}
		if u.Address.IsValid() {
			row.Address = u.Address.String()
		}
		rows = append(rows, row)
	}
	return rows
}
