package observe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/policy"
)

// kernel asks rtnetlink. It is for one goroutine.
type kernel struct {
	spaces *namespaces
}

func newKernel() (*kernel, error) {
	spaces, err := newNamespaces()
	if err != nil {
		return nil, err
	}
	return &kernel{spaces: spaces}, nil
}

func (k *kernel) close() { k.spaces.close() }

// look gives everything but what Docker and the netfilter rules know.
func (k *kernel) look() (policy.Observed, error) {
	var seen policy.Observed
	links, err := complete(netlink.LinkList)
	if err != nil {
		return seen, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := complete(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return seen, fmt.Errorf("list addresses: %w", err)
	}
	defaults, err := defaultRoutes()
	if err != nil {
		return seen, err
	}
	byDevice := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefix(a); ok {
			byDevice[a.LinkIndex] = append(byDevice[a.LinkIndex], p)
			seen.HostAddrs = append(seen.HostAddrs, policy.HostAddr{Prefix: p, Index: a.LinkIndex})
		}
	}
	bridges := map[int]bool{}
	for _, l := range links {
		if l.Type() != "bridge" {
			continue
		}
		at := l.Attrs()
		bridges[at.Index] = true
		seen.Bridges = append(seen.Bridges, policy.Bridge{
			Name: at.Name, Index: at.Index, MAC: at.HardwareAddr, MTU: at.MTU, Addrs: byDevice[at.Index],
		})
	}
	k.spaces.readNames()
	for _, l := range links {
		at := l.Attrs()
		if l.Type() == "veth" && bridges[at.MasterIndex] && at.NetNsID >= 0 {
			e, found, err := k.spaces.endpoint(at)
			if err != nil {
				return seen, err
			}
			if found {
				seen.Endpoints = append(seen.Endpoints, e)
			}
			continue
		}
		if mayBeUplink(l, bridges, byDevice, defaults) {
			seen.Uplinks = append(seen.Uplinks, policy.Uplink{
				Name: at.Name, Index: at.Index, MTU: at.MTU, Addrs: byDevice[at.Index],
				DefaultRoute: defaults[at.Index], Ethernet: at.EncapType == "ether",
			})
		}
	}
	return seen, nil
}

// mayBeUplink leaves out loopback, the ports of bridges, and bridges without a default route: those are networks of containers. A device that
// is down with an address may come up at any moment, and its first packet is to find the programs there.
func mayBeUplink(l netlink.Link, bridges map[int]bool, addrs map[int][]netip.Prefix, defaults map[int]bool) bool {
	at := l.Attrs()
	switch {
	case at.Flags&net.FlagLoopback != 0 || bridges[at.MasterIndex]:
		return false
	case defaults[at.Index]:
		return true
	default:
		return !bridges[at.Index] && len(addrs[at.Index]) > 0
	}
}

// defaultRoutes gives the devices by which an IPv4 default route of any table leaves.
func defaultRoutes() (map[int]bool, error) {
	routes, err := complete(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	found := map[int]bool{}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if r.LinkIndex > 0 {
			found[r.LinkIndex] = true
		}
		for _, hop := range r.MultiPath {
			found[hop.LinkIndex] = true
		}
	}
	return found, nil
}

func prefix(a netlink.Addr) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), true
}

// maxDumps is how often a list is asked for again that changed while the kernel told it.
const maxDumps = 10

// complete asks for a list until the kernel has told it in one piece. A list that changes each time is taken as it is: what changed is an
// event, and an event is a reason to look again.
func complete[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
		if try == maxDumps {
			return all, nil
		}
	}
}
