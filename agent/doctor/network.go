package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/observe"
	"github.com/ebpfnet/ebpfnet/policy"
)

// network is what is examined of the host's devices, addresses and routes.
type network struct {
	policy.Observed
	names  map[int]string // of devices, by ifindex
	mtus   map[int]int
	vxlans []vxlan
	xdp    []string // devices with an XDP program
	routes []routed // beside the default routes and those that come with addresses
}

// vxlan is a VXLAN device and what its packets leave by.
type vxlan struct {
	name     string
	mtu      int
	underlay int // ifindex; 0 where the device does not say
}

// routed is a subnet that a route leads to.
type routed struct {
	prefix netip.Prefix
	index  int
}

// look examines the calling thread's network namespace.
func look() (network, error) {
	n := network{names: map[int]string{}, mtus: map[int]int{}}
	var err error
	if n.Observed, err = observe.Kernel(); err != nil {
		return n, err
	}
	// A network of containers is no way out.
	n.Uplinks = slices.DeleteFunc(n.Uplinks, func(u policy.Uplink) bool {
		return !u.DefaultRoute && slices.ContainsFunc(n.Bridges, func(b policy.Bridge) bool { return b.Index == u.Index })
	})
	links, err := netlink.LinkList()
	if err != nil {
		return n, fmt.Errorf("list devices: %w", err)
	}
	for _, l := range links {
		at := l.Attrs()
		n.names[at.Index], n.mtus[at.Index] = at.Name, at.MTU
		if v, ok := l.(*netlink.Vxlan); ok {
			n.vxlans = append(n.vxlans, vxlan{at.Name, at.MTU, v.VtepDevIndex})
		}
		if at.Xdp != nil && at.Xdp.Attached {
			n.xdp = append(n.xdp, at.Name)
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return n, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		if ones, _ := r.Dst.Mask.Size(); ok && ones > 0 {
			n.routes = append(n.routes, routed{netip.PrefixFrom(addr.Unmap(), ones), r.LinkIndex})
		}
	}
	return n, nil
}

// checkMTU looks for devices whose neighbours take shorter packets than they.
func (n *network) checkMTU() []api.Finding {
	var out []api.Finding
	warn := func(advice, format string, args ...any) {
		out = append(out, api.Finding{Level: Warning, Check: "mtu", Found: fmt.Sprintf(format, args...), Advice: advice})
	}
	for _, b := range n.Bridges {
		for _, u := range n.Uplinks {
			if u.DefaultRoute && b.MTU > u.MTU && u.Index != b.Index {
				warn(fmt.Sprintf("make the network anew with `--opt com.docker.network.driver.mtu=%d`, or for docker0 set \"mtu\" in /etc/docker/daemon.json", u.MTU),
					"%s has %d and the uplink %s has %d: long packets depend on ICMP errors that many networks do not let through", b.Name, b.MTU, u.Name, u.MTU)
			}
		}
		for _, e := range n.Endpoints {
			if e.Bridge != b.Index {
				continue
			}
			if host := n.mtus[e.Index]; host != e.MTU {
				warn(fmt.Sprintf("`ip link set dev %s mtu %d`, or the other end the same", e.Veth, e.MTU),
					"the ends of the veth %s have %d and %d: the longer one's packets are lost without a word", e.Veth, host, e.MTU)
			} else if e.MTU > b.MTU {
				warn(fmt.Sprintf("`ip link set dev %s mtu %d` in the container's namespace", e.PeerName, b.MTU),
					"the container behind %s has %d and its bridge %s has %d", e.Veth, e.MTU, b.Name, b.MTU)
			}
		}
	}
	const overhead = 50 // outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348)
	for _, v := range n.vxlans {
		if under := n.mtus[v.underlay]; v.underlay != 0 && v.mtu > under-overhead {
			warn(fmt.Sprintf("`ip link set dev %s mtu %d`", v.name, under-overhead),
				"%s has %d, and its packets grow by %d before they leave by %s, which has %d", v.name, v.mtu, overhead, n.names[v.underlay], under)
		}
	}
	if len(out) == 0 {
		out = append(out, api.Finding{Level: OK, Check: "mtu", Found: "no device's packets are too long for the next"})
	}
	return out
}

// checkSubnets looks for addresses that two devices claim, of which the less specific never gets some of its packets.
func (n *network) checkSubnets() []api.Finding {
	var out []api.Finding
	say := func(a netip.Prefix, aIndex int, b netip.Prefix, bIndex int, how string) {
		out = append(out, api.Finding{Level: Warning, Check: "subnets",
			Found: fmt.Sprintf("%s of %s and %s %s %s overlap: the narrower one, or the older of equals, has all the packets",
				a, n.names[aIndex], b, how, n.names[bIndex]),
			Advice: "give one of them other addresses: for Docker `docker network create --subnet`, and \"bip\" and \"default-address-pools\" in /etc/docker/daemon.json"})
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for i, a := range n.HostAddrs {
		for _, b := range n.HostAddrs[i+1:] {
			if a.Index != b.Index && a.Prefix.Overlaps(b.Prefix) && !loopback.Overlaps(a.Prefix) && a.Prefix.Bits() < 32 && b.Prefix.Bits() < 32 {
				say(a.Prefix.Masked(), a.Index, b.Prefix.Masked(), b.Index, "of")
			}
		}
		if !slices.ContainsFunc(n.Bridges, func(b policy.Bridge) bool { return b.Index == a.Index }) {
			continue
		}
		for _, r := range n.routes {
			if r.index != a.Index && r.prefix.Overlaps(a.Prefix) {
				say(a.Prefix.Masked(), a.Index, r.prefix, r.index, "by")
			}
		}
	}
	if len(out) == 0 {
		out = append(out, api.Finding{Level: OK, Check: "subnets", Found: "no two overlap"})
	}
	return out
}
