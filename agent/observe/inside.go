package observe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// End is one end of a veth pair, and the network namespace that it is in.
type End struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
	MTU   int
	Up    bool

	Inode uint64 // of the namespace, as in net:[4026531840]; 0 where it was not found
	Path  string // a file that leads to it, "" for the own namespace
}

// Pair is a container's veth, from the host's end.
type Pair struct {
	Host, Container End
	Routes          []Route // of the container: IPv4 and IPv6, main table
}

// Route is a route in a container's namespace. What is invalid or empty is not said.
type Route struct {
	Destination netip.Prefix // of length 0 for the default route
	Gateway     netip.Addr
	Device      string
	Source      netip.Addr
	Metric      int
}

// Inside looks into the namespace behind the veth whose host's end has that ifindex. It searches among the files that lead to namespaces,
// and enters the one that it finds, which is for root alone: where it may not, the error says so and the Pair has what is known without.
func Inside(index int) (Pair, error) {
	var p Pair
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return p, fmt.Errorf("look at veth %d: %w", index, err)
	}
	p.Host = newEnd(link)
	if p.Host.Inode, err = inode("/proc/thread-self/ns/net"); err != nil {
		return p, fmt.Errorf("look at the own namespace: %w", err)
	}
	at := link.Attrs()
	spaces, err := newNamespaces()
	if err != nil {
		return p, err
	}
	defer spaces.close()
	peer, err := spaces.link(at.NetNsID, at.ParentIndex)
	if err != nil {
		return p, err
	}
	p.Container = newEnd(peer)
	path, err := findSpace(at.NetNsID, spaceFiles())
	if err != nil {
		return p, fmt.Errorf("find the namespace behind %s: %w", at.Name, err)
	}
	p.Container.Path = path
	if p.Container.Inode, err = inode(path); err == nil {
		p.Routes, err = routesIn(path)
	}
	if err != nil {
		return p, fmt.Errorf("read the routes behind %s: %w", at.Name, err)
	}
	return p, nil
}

func newEnd(l netlink.Link) End {
	at := l.Attrs()
	return End{Name: at.Name, Index: at.Index, MAC: at.HardwareAddr, MTU: at.MTU, Up: at.Flags&net.FlagUp != 0}
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// spaceFiles are where files that lead to network namespaces are found: those that have names first, then every process's own.
func spaceFiles() []string {
	return []string{namesFolder + "/*", "/run/docker/netns/*", "/proc/[0-9]*/ns/net"}
}

// findSpace gives a file that leads to the namespace with a number in the own one.
func findSpace(nsid int, patterns []string) (string, error) {
	seen := map[uint64]bool{}
	forbidden := false
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, file := range files {
			ino, err := inode(file)
			if errors.Is(err, os.ErrPermission) {
				forbidden = true
			}
			if err != nil || seen[ino] {
				continue // a process that has ended
			}
			seen[ino] = true
			f, err := os.Open(file)
			if err != nil {
				forbidden = forbidden || errors.Is(err, os.ErrPermission)
				continue
			}
			id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
			f.Close()
			if err == nil && id == nsid {
				return file, nil
			}
		}
	}
	if forbidden {
		return "", fmt.Errorf("namespaces of other users' processes may not be looked at: %w", os.ErrPermission)
	}
	return "", fmt.Errorf("no process and no name leads to namespace %d", nsid)
}

// routesIn gives the main table of a namespace.
func routesIn(path string) ([]Route, error) {
	space, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	defer space.Close()
	h, err := netlink.NewHandleAt(space, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("enter it: %w", err)
	}
	defer h.Close()
	links, err := complete(h.LinkList)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var all []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := complete(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			all = append(all, newRoutes(r, family, names)...)
		}
	}
	return all, nil
}

// newRoutes gives one route for each next hop.
func newRoutes(r netlink.Route, family int, names map[int]string) []Route {
	one := Route{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Metric: r.Priority}
	if family == netlink.FAMILY_V6 {
		one.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		ones, _ := r.Dst.Mask.Size()
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			if family == netlink.FAMILY_V4 {
				a = a.Unmap()
			}
			one.Destination = netip.PrefixFrom(a, ones)
		}
	}
	if a, ok := netip.AddrFromSlice(r.Src); ok {
		one.Source = a.Unmap()
	}
	hop := func(gw net.IP, index int) Route {
		h := one
		if a, ok := netip.AddrFromSlice(gw); ok {
			h.Gateway = a.Unmap()
		}
		h.Device = names[index]
		return h
	}
	if len(r.MultiPath) == 0 {
		return []Route{hop(r.Gw, r.LinkIndex)}
	}
	var all []Route
	for _, n := range r.MultiPath {
		all = append(all, hop(n.Gw, n.LinkIndex))
	}
	return all
}
