package policy

import (
	"math"
	"net/netip"
	"slices"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// addUplinks attaches the devices that lead outside: those that the user named; else those with a default route; else, on a host without
// one, every device with an address. Where other hosts reach this one is an uplink in any case if a program has to open what they send.
func (c *compiler) addUplinks() {
	if len(c.in.Uplinks) > 0 {
		c.addNamedUplinks()
		return
	}
	routed := slices.ContainsFunc(c.o.Uplinks, func(u Uplink) bool { return u.DefaultRoute })
	for i := range c.o.Uplinks {
		u := &c.o.Uplinks[i]
		if c.opensDatagrams(u.Name) {
			c.addUplink(u, true)
			continue
		}
		if c.isTunnel(u.Index) {
			continue
		}
		if routed && u.DefaultRoute || !routed && hasOutsideAddr(u) && !u.Bridge && !c.isDockerBridge(u.Name) {
			c.addUplink(u, routed)
		}
	}
}

func (c *compiler) addNamedUplinks() {
	names := slices.Clone(c.in.Uplinks)
	if c.o.Overlay != nil && c.opensDatagrams(c.o.Overlay.Uplink) {
		names = append(names, c.o.Overlay.Uplink)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		i := slices.IndexFunc(c.o.Uplinks, func(u Uplink) bool { return u.Name == name })
		if i < 0 {
			c.r.Uplinks = append(c.r.Uplinks, UplinkView{Name: name, Why: "there is no such device yet: waiting for it"})
			continue
		}
		c.addUplink(&c.o.Uplinks[i], true)
	}
}

// opensDatagrams tells whether other hosts' datagrams come in by a device.
func (c *compiler) opensDatagrams(name string) bool {
	return c.o.Overlay != nil && c.o.Overlay.Kind == overlay.UDP && c.o.Overlay.Uplink == name
}

// isTunnel tells whether a device only leads into the tunnel to other hosts.
func (c *compiler) isTunnel(ifindex int) bool {
	return c.o.Overlay != nil && (ifindex == c.o.Overlay.Device || ifindex == c.o.Overlay.Far)
}

// addUplink attaches one device. Where nobody asked for this one, being an attached bridge is no problem worth a word.
func (c *compiler) addUplink(u *Uplink, asked bool) {
	view := UplinkView{Name: u.Name, Index: u.Index}
	addrs := ipv4(u.Addrs)
	if len(addrs) > 0 {
		view.Address = addrs[0].Addr()
	}
	switch {
	case c.bridges[u.Index] != nil:
		if !asked {
			return
		}
		view.Why = "it is an attached bridge"
		c.problem("uplink %s is an attached bridge too: not supported yet, and it is left out", u.Name)
	case !u.Ethernet:
		view.Why = "it has no link-layer header"
		c.problem("uplink %s has no link-layer header: not supported yet, and it is left out", u.Name)
	default:
		view.Attached = true
		c.r.State.Uplinks[uint32(u.Index)] = uplinkEntry(u, addrs)
	}
	c.r.Uplinks = append(c.r.Uplinks, view)
}

// uplinkEntry holds the first eight addresses; what leaves by a device with more leaves with one of these.
func uplinkEntry(u *Uplink, addrs []netip.Prefix) bpf.Uplink {
	entry := bpf.Uplink{Mtu: mtu16(u.MTU)}
	for i, p := range addrs[:min(len(addrs), len(entry.Addrs))] {
		entry.Addrs[i] = bpf.Addr(p.Addr())
		entry.Masks[i] = netmask(p.Bits())
		entry.Naddrs++
	}
	return entry
}

// netmask gives a prefix's length as a mask in network order.
func netmask(bits int) uint32 {
	m := uint32(math.MaxUint32) << (32 - bits)
	return bpf.Addr(netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}))
}

// hasOutsideAddr tells whether a device could lead anywhere: the loopback device does not.
func hasOutsideAddr(u *Uplink) bool {
	return slices.ContainsFunc(ipv4(u.Addrs), func(p netip.Prefix) bool { return !p.Addr().IsLoopback() })
}

// isDockerBridge tells whether a device is the bridge of a Docker network, attached or not. Docker's networks are kept apart; none of them
// is taken for the outside.
func (c *compiler) isDockerBridge(name string) bool {
	return slices.ContainsFunc(c.o.Networks, func(n Network) bool { return n.Bridge == name })
}
