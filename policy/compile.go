package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Compile decides what the maps must hold. It reads o and in only; ids gives out numbers for what is new. The result's Turnover is reported
// again until Identities.Settle is told of it.
func Compile(o Observed, in Intent, ids *Identities) Result {
	c := &compiler{in: in, ids: ids, bridges: make(map[int]*bridge), host: make(map[netip.Addr]bool, len(o.HostAddrs))}
	c.o = sorted(o)
	c.r.State = maps.State{
		Endpoints: make(map[bpf.AddrKey]bpf.Endpoint, len(o.Endpoints)),
		Bridges:   make(map[uint32]bpf.Bridge),
		Veths:     make(map[uint32]bpf.Veth, len(o.Endpoints)),
		Uplinks:   make(map[uint32]bpf.Uplink),
		HostAddrs: make(map[bpf.AddrKey]bpf.HostAddr, len(o.HostAddrs)),
		Subnets:   make(map[bpf.PrefixKey]bpf.Subnet),
	}
	ids.begin()
	c.addHostAddrs()
	c.addBridges()
	c.addEndpoints()
	c.addUplinks()
	c.addPeers()
	c.addPeerViews()
	c.addContainers()
	c.finishEndpoints()
	c.addRules()
	c.addPorts()
	c.r.Turnover = ids.end()
	c.r.State.NextID = ids.next
	return c.r
}

// compiler holds one compilation.
type compiler struct {
	o          Observed
	in         Intent
	ids        *Identities
	r          Result
	host       map[netip.Addr]bool
	bridges    map[int]*bridge // attached ones by ifindex
	endpoints  []*endpoint     // on attached bridges, by ifindex
	containers []*container    // by name
}

// sorted gives a copy in an order that does not depend on the order in which things were seen.
func sorted(o Observed) Observed {
	o.Bridges = slices.Clone(o.Bridges)
	slices.SortFunc(o.Bridges, func(a, b Bridge) int { return a.Index - b.Index })
	o.Uplinks = slices.Clone(o.Uplinks)
	slices.SortFunc(o.Uplinks, func(a, b Uplink) int { return strings.Compare(a.Name, b.Name) })
	o.Endpoints = slices.Clone(o.Endpoints)
	slices.SortFunc(o.Endpoints, func(a, b Endpoint) int { return a.Index - b.Index })
	o.Containers = slices.Clone(o.Containers)
	slices.SortFunc(o.Containers, func(a, b Container) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return o
}

func (c *compiler) problem(format string, args ...any) {
	c.r.Problems = append(c.r.Problems, fmt.Sprintf(format, args...))
}

// addHostAddrs enters every address of the host. Its own in the hosts' network is one as soon as it is known: another host may dial a port
// there before the kernel has told that the device has got it.
func (c *compiler) addHostAddrs() {
	addrs := c.o.HostAddrs
	if o := c.o.Overlay; o != nil && o.Addr.IsValid() && !slices.ContainsFunc(addrs, func(a HostAddr) bool { return a.Prefix.Addr() == o.Addr }) {
		addrs = append(slices.Clip(addrs), HostAddr{Prefix: netip.PrefixFrom(o.Addr, 32), Index: o.Device})
	}
	for _, a := range addrs {
		addr := a.Prefix.Addr().Unmap()
		if !addr.Is4() {
			continue
		}
		c.host[addr] = true
		c.r.State.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(addr)}] = bpf.HostAddr{Ifindex: uint32(a.Index)}
	}
}

// isHost tells whether the host answers to an address. All of 127.0.0.0/8 is its own.
func (c *compiler) isHost(a netip.Addr) bool {
	return a.IsLoopback() || c.host[a]
}

// ipv4 keeps the IPv4 prefixes of a device.
func ipv4(prefixes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return !p.Addr().Is4() })
}

// mtu16 gives an MTU as the maps hold it. A device that takes more than an IPv4 packet can be long takes every packet.
func mtu16(mtu int) uint16 {
	return uint16(min(max(mtu, 0), math.MaxUint16))
}
