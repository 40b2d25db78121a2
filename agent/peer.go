package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/policy"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// addPeer runs in the loop.
func (a *Agent) addPeer(ctx context.Context, q api.PeerRequest) error {
	p, err := parsePeer(q)
	if err != nil {
		return usageError{err}
	}
	if a.o.Overlay.wanted() {
		return fmt.Errorf("add peer %s: this host's peers are in etcd", p.Subnet)
	}
	if a.dp == nil {
		return errNothingAttached
	}
	in := a.state.Intent
	for _, b := range a.settled.Bridges {
		if slices.ContainsFunc(b.Subnets, p.Subnet.Overlaps) {
			return fmt.Errorf("add peer %s: bridge %s of this host has %s: hosts need a subnet each: start dockerd on one of them with another --bip",
				p.Subnet, b.Name, b.Subnets[0])
		}
	}
	for _, other := range in.Peers {
		if other.Subnet.Overlaps(p.Subnet) && other.Subnet != p.Subnet {
			return fmt.Errorf("add peer %s: it overlaps the peer %s by %s", p.Subnet, other.Subnet, other.Via)
		}
	}
	in.Peers = slices.DeleteFunc(slices.Clone(in.Peers), func(o policy.PeerIntent) bool { return o.Subnet == p.Subnet })
	in.Peers = append(in.Peers, p)
	if err := a.changePeers(ctx, in); err != nil {
		return fmt.Errorf("add peer %s: %w", p.Subnet, err)
	}
	a.log.Info("peer added", "subnet", p.Subnet, "via", p.Via)
	return nil
}

// removePeer runs in the loop.
func (a *Agent) removePeer(ctx context.Context, q api.PeerRequest) error {
	subnet, err := netip.ParsePrefix(q.Subnet)
	if err != nil {
		return usageError{fmt.Errorf("remove peer %q: it is a subnet like 10.200.2.0/24", q.Subnet)}
	}
	in := a.state.Intent
	in.Peers = slices.DeleteFunc(slices.Clone(in.Peers), func(o policy.PeerIntent) bool { return o.Subnet == subnet.Masked() })
	if len(in.Peers) == len(a.state.Intent.Peers) {
		return fmt.Errorf("remove peer %s: there is none that was added: `ebpfnet peer list` shows all", subnet)
	}
	if err := a.changePeers(ctx, in); err != nil {
		return fmt.Errorf("remove peer %s: %w", subnet, err)
	}
	a.log.Info("peer removed", "subnet", subnet)
	return nil
}

// changePeers puts an intent with other peers to work. What is observed depends on it.
func (a *Agent) changePeers(ctx context.Context, in policy.Intent) error {
	before := a.state.Intent
	a.state.Intent = in
	o, err := a.observe(ctx)
	a.state.Intent = before
	if err != nil {
		return err
	}
	if problems := a.problems["overlay"]; len(problems) > 0 && o.Overlay == nil && len(in.Peers) > 0 {
		return fmt.Errorf("%s", problems[0])
	}
	return a.change(ctx, o, in, nil)
}

func parsePeer(q api.PeerRequest) (policy.PeerIntent, error) {
	subnet, err := netip.ParsePrefix(q.Subnet)
	if err != nil || !subnet.Addr().Is4() || subnet.Bits() == 0 {
		return policy.PeerIntent{}, fmt.Errorf("peer %q: it is a subnet like 10.200.2.0/24", q.Subnet)
	}
	via, err := netip.ParseAddr(q.Via)
	if err != nil || !via.Is4() || via.IsUnspecified() || via.IsMulticast() || via.IsLoopback() {
		return policy.PeerIntent{}, fmt.Errorf("--via %q: it is the other host's IPv4 address", q.Via)
	}
	if subnet.Contains(via) {
		return policy.PeerIntent{}, fmt.Errorf("--via %s: it lies in %s, which is what it should lead to", via, subnet)
	}
	if q.MAC != "" {
		if mac, err := net.ParseMAC(q.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return policy.PeerIntent{}, fmt.Errorf("--mac %q: it is an Ethernet address like 0e:eb:0a:00:00:02", q.MAC)
		}
	}
	return policy.PeerIntent{Subnet: subnet.Masked(), Via: via, MAC: q.MAC}, nil
}

// peers lists the other hosts.
func (v *view) peers() []api.Peer {
	rows := make([]api.Peer, len(v.result.Peers))
	for i, p := range v.result.Peers {
		rows[i] = api.Peer{Subnet: p.Subnet.String(), Via: p.Via.String(), MAC: p.MAC.String(), Node: p.Node, Source: p.Source, Way: string(p.Kind)}
		if p.Direct {
			rows[i].Way = "direct"
		}
		if rows[i].Way != string(overlay.VXLAN) {
			rows[i].MAC = ""
		}
	}
	return rows
}
