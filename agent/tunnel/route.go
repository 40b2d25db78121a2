package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks the routes of this project (rtm_protocol of rtnetlink(7)); a route of anybody else is left alone.
const protocol = 0xeb

// Route is one of the host's own traffic: by a next hop, or straight into a device with a source address.
type Route struct {
	Subnet netip.Prefix
	Via    netip.Addr // invalid: none
	Device int        // ifindex
	Source netip.Addr // invalid: the kernel's choice
	MTU    int        // 0: the device's
}

// SyncRoutes makes this project's routes those that are wanted. Where somebody else has a route to a subnet already, it stays, and the error
// says so.
func SyncRoutes(want []Route) error {
	have, err := listRoutes()
	if err != nil {
		return err
	}
	// One socket for all of them: there may be ten thousand.
	kernel, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open route netlink: %w", err)
	}
	defer kernel.Close()
	var errs []error
	wanted := make(map[netip.Prefix]bool, len(want))
	for _, r := range want {
		wanted[r.Subnet] = true
		if have[r] {
			continue
		}
		if err := kernel.RouteReplace(r.netlink()); err != nil {
			errs = append(errs, fmt.Errorf("add route to %s: %w", r.Subnet, err))
		}
	}
	for r := range have {
		if wanted[r.Subnet] {
			continue // it is wanted, or what is has replaced it
		}
		if err := kernel.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", r.Subnet, err))
		}
	}
	return errors.Join(errs...)
}

func listRoutes() (map[Route]bool, error) {
	for {
		found, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all := make(map[Route]bool, len(found))
		for _, f := range found {
			r := Route{Device: f.LinkIndex}
			if f.Dst != nil {
				addr, _ := netip.AddrFromSlice(f.Dst.IP.To4())
				bits, _ := f.Dst.Mask.Size()
				r.Subnet = netip.PrefixFrom(addr, bits)
			}
			r.Via, _ = netip.AddrFromSlice(f.Gw.To4())
			r.Source, _ = netip.AddrFromSlice(f.Src.To4())
			r.MTU = f.MTU
			all[r] = true
		}
		return all, nil
	}
}

func (r Route) netlink() *netlink.Route {
	out := &netlink.Route{
		Dst:      &net.IPNet{IP: r.Subnet.Addr().AsSlice(), Mask: net.CIDRMask(r.Subnet.Bits(), 32)},
		Protocol: protocol, LinkIndex: r.Device, Table: unix.RT_TABLE_MAIN, Scope: unix.RT_SCOPE_LINK, MTU: r.MTU,
	}
	if r.Via.IsValid() {
		out.Gw, out.Scope = r.Via.AsSlice(), unix.RT_SCOPE_UNIVERSE
	}
	if r.Source.IsValid() {
		out.Src = r.Source.AsSlice()
	}
	return out
}

// Near tells which hosts are reached without a router, and the ifindex by which each is.
func Near(hosts []netip.Addr) (map[netip.Addr]int, error) {
	near := make(map[netip.Addr]int, len(hosts))
	if len(hosts) == 0 {
		return near, nil
	}
	kernel, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all of them
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	defer kernel.Close()
	for _, h := range hosts {
		routes, err := kernel.RouteGet(h.AsSlice())
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the route to %s: %w", h, err)
		}
		if len(routes) == 1 && routes[0].Gw == nil && routes[0].Via == nil {
			near[h] = routes[0].LinkIndex
		}
	}
	return near, nil
}

// Public is where other hosts reach this one.
type Public struct {
	Addr   netip.Addr
	Device int // ifindex of the device that has it
	Name   string
	MTU    int
}

// FindPublic finds the address that the others are to know: the one that is asked for, else the first one of the device that is asked for,
// else of the device with the default route.
func FindPublic(addr netip.Addr, device string) (Public, error) {
	if device == "" && !addr.IsValid() {
		name, err := defaultDevice()
		if err != nil {
			return Public{}, err
		}
		device = name
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return Public{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok || addr.IsValid() && ip != addr {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // it has left since
		}
		if device != "" && link.Attrs().Name != device {
			continue
		}
		return Public{Addr: ip, Device: a.LinkIndex, Name: link.Attrs().Name, MTU: link.Attrs().MTU}, nil
	}
	switch {
	case addr.IsValid() && device != "":
		return Public{}, fmt.Errorf("device %s has no address %s", device, addr)
	case addr.IsValid():
		return Public{}, fmt.Errorf("%s is not an address of this host", addr)
	default:
		return Public{}, fmt.Errorf("device %s has no IPv4 address", device)
	}
}

func defaultDevice() (string, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "", fmt.Errorf("list routes: %w", err)
	}
	best, priority := 0, -1
	for _, r := range routes {
		isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified() && len(r.Dst.IP) > 0 && onesOf(r.Dst) == 0
		if isDefault && r.LinkIndex > 0 && (priority < 0 || r.Priority < priority) {
			best, priority = r.LinkIndex, r.Priority
		}
	}
	if best == 0 {
		return "", errors.New("there is no default route: name the device with --iface, or the address with --public-ip")
	}
	link, err := netlink.LinkByIndex(best)
	if err != nil {
		return "", fmt.Errorf("find device %d: %w", best, err)
	}
	return link.Attrs().Name, nil
}

func onesOf(n *net.IPNet) int {
	ones, _ := n.Mask.Size()
	return ones
}
