package observe

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/policy"
)

// kernel asks rtnetlink. It is for one goroutine.
type kernel struct {
	spaces *namespaces
	led    ledBefore
}

func newKernel() (*kernel, error) {
	spaces, err := newNamespaces()
	if err != nil {
		return nil, err
	}
	return &kernel{spaces: spaces, led: ledBefore{}}, nil
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
	k.led.keep(links, defaults, time.Now())
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
		if mayBeUplink(at, bridges, byDevice, defaults) {
			seen.Uplinks = append(seen.Uplinks, policy.Uplink{
				Name: at.Name, Index: at.Index, MTU: at.MTU, Addrs: byDevice[at.Index],
				DefaultRoute: defaults[at.Index], Ethernet: at.EncapType == "ether", Bridge: bridges[at.Index],
			})
		}
	}
	return seen, nil
}

// mayBeUplink leaves out loopback, the ports of bridges, and what has neither an address nor a default route. A device that is down with an
// address may come up at any moment, and its first packet is to find the programs there.
func mayBeUplink(at *netlink.LinkAttrs, bridges map[int]bool, addrs map[int][]netip.Prefix, defaults map[int]bool) bool {
	if at.Flags&net.FlagLoopback != 0 || bridges[at.MasterIndex] {
		return false
	}
	return defaults[at.Index] || len(addrs[at.Index]) > 0
}

// ledBefore holds, by ifindex, when a device was last seen with a default route, or down after that. The kernel takes the routes of a device
// that goes down, and whoever configures it puts them back some time after it is up; its first packets are to find the programs there.
type ledBefore map[int]time.Time

// comeback is how long a device that is up again is waited for.
const comeback = 30 * time.Second

// keep adds to defaults the devices that had a default route before they went down. Of a device that is gone nothing is kept.
func (b ledBefore) keep(links []netlink.Link, defaults map[int]bool, now time.Time) {
	there := map[int]bool{}
	for _, l := range links {
		at := l.Attrs()
		there[at.Index] = true
		up := at.Flags&net.FlagUp != 0 && at.OperState != netlink.OperDown && at.OperState != netlink.OperLowerLayerDown
		last, led := b[at.Index]
		switch {
		case defaults[at.Index] || led && !up:
			b[at.Index] = now
			defaults[at.Index] = true
		case led && now.Sub(last) < comeback:
			defaults[at.Index] = true
		default:
			delete(b, at.Index)
		}
	}
	maps.DeleteFunc(b, func(ifindex int, _ time.Time) bool { return !there[ifindex] })
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

// Kernel looks at the network namespace of the calling thread once, without Docker and without an agent.
func Kernel() (policy.Observed, error) {
	k, err := newKernel()
	if err != nil {
		return policy.Observed{}, err
	}
	defer k.close()
	return k.look()
}
