package policy

import (
	"net"
	"net/netip"
	"slices"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// Overlay is this host's place among others, and what the kernel has for it. The zero value is a host by itself.
type Overlay struct {
	Kind    overlay.Kind
	Network netip.Prefix // all hosts' subnets lie in it; invalid where there is only a list of peers
	Subnet  netip.Prefix // this host's share; invalid where there is only a list of peers: then every attached bridge is known to them
	Public  netip.Addr   // where the others reach this host
	MAC     net.HardwareAddr
	VNI     uint32
	Port    uint16 // of UDP that the tunnels use; 0: there are none
	MTU     int    // of packets before they are wrapped
	Peers   []overlay.Peer
	Near    map[netip.Addr]bool // peers' hosts that are reached without a router in between
	Direct  bool                // near ones are sent to without a tunnel
	Device  int                 // ifindex of the device that leads into the tunnel; 0: none
	Far     int                 // ifindex of the other end of the pair that packets for datagrams go through; 0: there is none
	Uplink  string              // the device that has Public
	Addr    netip.Addr          // this host's own in the network; invalid: Public stands for it
}

// PeerIntent is another host that the user named.
type PeerIntent struct {
	Subnet netip.Prefix `json:"subnet"`
	Via    netip.Addr   `json:"via"`
	MAC    string       `json:"mac,omitempty"` // of its tunnel endpoint; empty: the one that ebpfnet makes from Via
}

// Peer gives the peer that the user meant.
func (p PeerIntent) Peer() overlay.Peer {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		mac = overlay.DerivedMAC(p.Via)
	}
	return overlay.Peer{Subnet: p.Subnet, Public: p.Via, MAC: mac}
}

// PeerView is another host as the command line shows it.
type PeerView struct {
	Subnet netip.Prefix
	Via    netip.Addr
	MAC    net.HardwareAddr
	Node   string       // empty: not an ebpfnet, or named by the user
	Source string       // SourceEtcd or SourceUser
	Direct bool         // without a tunnel
	Kind   overlay.Kind // of the network's tunnel
	Near   bool
}

// SourceEtcd is the source of a peer that etcd told of.
const SourceEtcd = "etcd"

// addPeers enters the other hosts. Every address of the network that no host has gets an entry too, of no kind: nothing that is meant for a
// container may leave for the internet.
func (c *compiler) addPeers() {
	o := c.o.Overlay
	if o == nil {
		return
	}
	c.r.State.Peers = make(map[bpf.PrefixKey]bpf.Peer, len(o.Peers)+1)
	c.r.State.PeerHosts = make(map[bpf.AddrKey]bpf.PeerHost, len(o.Peers))
	if o.Network.IsValid() {
		c.r.State.Peers[lpmKey(o.Network)] = bpf.Peer{}
	}
	for _, p := range o.Peers {
		if b := c.overlapping(p.Subnet); b != nil {
			c.problem("peer %s by %s has addresses of this host's bridge %s: not reached; hosts need a subnet each (dockerd --bip)", p.Subnet,
				p.Public, b.Name)
			continue
		}
		near := o.Near[p.Public]
		entry := bpf.Peer{Addr: bpf.Addr(p.Public), Kind: tunnelKind(o.Kind), Mac: macArray(p.MAC)}
		// What only another ebpfnet takes may be sent to who says to be one.
		if p.Node != "" {
			entry.Flags |= bpf.DatapathPeerFlagPEER_EBPFNET
		}
		if o.Kind == overlay.HostGW || near && o.Direct {
			entry.Kind = bpf.DatapathPeerKindPEER_DIRECT
		}
		if o.Kind == overlay.HostGW && !near {
			c.problem("peer %s by %s is behind a router: host-gw reaches only hosts on the same segment", p.Subnet, p.Public)
			entry = bpf.Peer{}
		}
		c.r.State.Peers[lpmKey(p.Subnet)] = entry
		host := bpf.PeerHost{}
		if near {
			host.Direct = 1
		}
		c.r.State.PeerHosts[bpf.AddrKey{Addr: bpf.Addr(p.Public)}] = host
	}
	shown := o.Public
	if o.Addr.IsValid() {
		shown = o.Addr
	}
	c.r.State.Overlay = bpf.Overlay{
		Ifindex: uint32(o.Device), Vni: o.VNI, Local: bpf.Addr(o.Public), Addr: bpf.Addr(shown), Mtu: mtu16(o.MTU), Mac: macArray(o.MAC),
		Port: bpf.Port(o.Port), Kind: tunnelKind(o.Kind),
	}
	if c.o.IPsec {
		c.r.State.Overlay.Flags |= bpf.DatapathOverlayFlagOVERLAY_KERNEL
	}
	if c.o.IPsec && o.Kind == overlay.UDP {
		c.problem("IPsec policies do not see the datagrams to other hosts: let the network's backend be vxlan, or remove the policies")
	}
	c.checkMembers(o)
}

// tunnelKind is how the programs know the tunnel of a kind of network.
func tunnelKind(k overlay.Kind) bpf.PeerKind {
	switch k {
	case overlay.VXLAN:
		return bpf.DatapathPeerKindPEER_VXLAN
	case overlay.UDP:
		return bpf.DatapathPeerKindPEER_UDP
	default:
		return bpf.DatapathPeerKindPEER_NONE
	}
}

// overlapping gives the attached bridge that has addresses of a prefix.
func (c *compiler) overlapping(p netip.Prefix) *bridge {
	for _, b := range c.bridges {
		if slices.ContainsFunc(b.subnets, p.Overlaps) {
			return b
		}
	}
	return nil
}

// checkMembers finds the bridges that other hosts reach, and says where none is or one cannot be.
func (c *compiler) checkMembers(o *Overlay) {
	members := 0
	for index, b := range c.bridges {
		member := slices.ContainsFunc(b.subnets, func(p netip.Prefix) bool {
			return !o.Subnet.IsValid() || p.Bits() >= o.Subnet.Bits() && o.Subnet.Contains(p.Addr())
		})
		if !member {
			if o.Network.IsValid() && slices.ContainsFunc(b.subnets, o.Network.Overlaps) {
				c.problem("bridge %s has %s, which is not this host's share %s of the network %s: other hosts do not reach it", b.Name, b.subnets[0],
					o.Subnet, o.Network)
			}
			continue
		}
		members++
		entry := c.r.State.Bridges[uint32(index)]
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_MEMBER
		c.r.State.Bridges[uint32(index)] = entry
		if b.MTU > o.MTU && o.Kind != overlay.HostGW {
			c.problem("bridge %s has an MTU of %d, and packets to other hosts may have %d bytes: start dockerd with --mtu %d", b.Name, b.MTU, o.MTU, o.MTU)
		}
	}
	if members == 0 && len(c.bridges) > 0 {
		c.problem("no attached bridge has the addresses %s that this host was given: other hosts reach no container here; start dockerd with "+
			"--bip %s --mtu %d", o.Subnet, netip.PrefixFrom(o.Subnet.Addr().Next(), o.Subnet.Bits()), o.MTU)
	}
}

// addPeerViews lists the peers as they are in force.
func (c *compiler) addPeerViews() {
	o := c.o.Overlay
	if o == nil {
		return
	}
	for _, p := range o.Peers {
		entry, there := c.r.State.Peers[lpmKey(p.Subnet)]
		if !there || entry.Kind == bpf.DatapathPeerKindPEER_NONE {
			continue
		}
		v := PeerView{Subnet: p.Subnet, Via: p.Public, MAC: p.MAC, Node: p.Node, Source: SourceEtcd, Near: o.Near[p.Public], Kind: o.Kind,
			Direct: entry.Kind == bpf.DatapathPeerKindPEER_DIRECT}
		if slices.ContainsFunc(c.in.Peers, func(in PeerIntent) bool { return in.Subnet == p.Subnet }) {
			v.Source = SourceUser
		}
		c.r.Peers = append(c.r.Peers, v)
	}
}

func lpmKey(p netip.Prefix) bpf.PrefixKey {
	return bpf.PrefixKey{Prefixlen: uint32(p.Bits()), Addr: bpf.Addr(p.Addr())}
}
