package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// endpoint is one on an attached bridge.
type endpoint struct {
	*Endpoint
	Identity   Identity
	bridge     *bridge
	container  *container // nil where no runtime has named it
	attachment *Attachment
	name       string
	addrs      []netip.Addr // those that the datapath carries
	view       int          // in Result.Endpoints
}

// addEndpoints gives every port of an attached bridge its identity, with or without an address.
func (c *compiler) addEndpoints() {
	full := false
	for i := range c.o.Endpoints {
		from := &c.o.Endpoints[i]
		b := c.bridges[from.Bridge]
		if b == nil {
			continue
		}
		identity, ok := c.ids.endpoint(from)
		if !ok {
			if !full {
				c.problem("veth %s and perhaps others are left to the kernel's path: there is room for %d endpoints: raise the setting endpoints",
					from.Veth, c.ids.slots.size)
			}
			full = true
			continue
		}
		c.r.State.Veths[uint32(from.Index)] = bpf.Veth{Bridge: uint32(from.Bridge), Id: identity.ID, Slot: identity.Slot, Mac: macArray(from.MAC)}
		c.endpoints = append(c.endpoints, &endpoint{Endpoint: from, Identity: identity, bridge: b})
	}
}

// finishEndpoints names what no container has named, enters the addresses, and builds the rows that the command line shows.
func (c *compiler) finishEndpoints() {
	c.nameEndpoints()
	for _, ep := range c.endpoints {
		c.addAddrs(ep)
	}
	byName := slices.Clone(c.endpoints)
	slices.SortFunc(byName, func(a, b *endpoint) int { return strings.Compare(a.name, b.name) })
	c.r.Endpoints = make([]EndpointView, len(byName))
	for i, ep := range byName {
		ep.view = i
		c.r.Endpoints[i] = ep.row()
		c.r.Bridges[ep.bridge.view].Endpoints++
	}
	c.fillDirectory()
}

// nameEndpoints gives every endpoint a name of its own. Containers choose first, since their names are their users' words.
func (c *compiler) nameEndpoints() {
	taken := make(map[string]bool, len(c.endpoints))
	name := func(ep *endpoint, candidates ...string) {
		for _, n := range candidates {
			if n != "" && !taken[n] {
				taken[n] = true
				ep.name = n
				return
			}
		}
	}
	for _, ct := range c.containers {
		if ct.main == nil {
			taken[ct.Name] = true // or the name would mean two things
			continue
		}
		name(ct.main, ct.Name, ct.ID)
		for _, ep := range ct.endpoints {
			if ep != ct.main {
				name(ep, ct.Name+"@"+ep.bridge.Name, ct.Name+"@"+ep.Veth)
			}
		}
	}
	for _, ep := range c.endpoints {
		if ep.container != nil {
			continue
		}
		if ep.Namespace != "" {
			name(ep, ep.Namespace, ep.Namespace+"@"+ep.bridge.Name, ep.Namespace+"@"+ep.Veth)
		} else {
			name(ep, ep.Veth, ep.Veth+"@"+ep.bridge.Name)
		}
	}
}

// addAddrs enters the addresses of an endpoint that lie in its bridge's subnets; the rest is for the kernel's path. What two endpoints
// claim goes to the older veth, and what the host claims is its own.
func (c *compiler) addAddrs(ep *endpoint) {
	mac := macArray(ep.MAC)
	if mac == [6]byte{} {
		return // nobody has said yet; a frame to no address would be lost
	}
	egress := c.egressAddr(ep)
	for _, p := range ep.Addrs {
		a := p.Addr().Unmap()
		if !a.Is4() || !ep.bridge.holds(a) || slices.Contains(ep.addrs, a) {
			continue
		}
		if c.isHost(a) {
			c.problem("endpoint %s has the address %s, which is the host's own: left to the kernel's path", ep.name, a)
			continue
		}
		key := bpf.AddrKey{Addr: bpf.Addr(a)}
		if other, taken := c.r.State.Endpoints[key]; taken {
			c.problem("endpoints %s and %s have the same address %s: %s has it", c.nameOf(other.Id), ep.name, a, c.nameOf(other.Id))
			continue
		}
		ep.addrs = append(ep.addrs, a)
		c.r.State.Endpoints[key] = bpf.Endpoint{
			Id:      ep.Identity.ID,
			Ifindex: uint32(ep.Index),
			Bridge:  uint32(ep.Bridge),
			Slot:    ep.Identity.Slot,
			Mtu:     mtu16(ep.MTU),
			Mac:     mac,
			Egress:  egress,
		}
	}
	// What Docker says it is goes before what was found first.
	if ep.attachment != nil {
		if i := slices.Index(ep.addrs, ep.attachment.Addr); i > 0 {
			ep.addrs[0], ep.addrs[i] = ep.addrs[i], ep.addrs[0]
		}
	}
}

func (c *compiler) nameOf(id uint32) string {
	for _, ep := range c.endpoints {
		if ep.Identity.ID == id {
			return ep.name
		}
	}
	return "?"
}

// row gives what the command line shows of an endpoint.
func (ep *endpoint) row() EndpointView {
	v := EndpointView{
		Identity:    ep.Identity,
		Name:        ep.name,
		Main:        ep.container == nil || ep.container.main == ep,
		Internal:    ep.bridge.internal(),
		Bridge:      ep.bridge.Name,
		BridgeIndex: ep.Bridge,
		Addrs:       ep.addrs,
		MAC:         ep.MAC,
		Veth:        ep.Veth,
		PeerName:    ep.PeerName,
		PeerIndex:   ep.PeerIndex,
		Namespace:   ep.Namespace,
	}
	if ep.bridge.network != nil {
		v.Network = ep.bridge.network.Name
	}
	if ct := ep.container; ct != nil {
		v.Container, v.ContainerID, v.Labels = ct.Name, ct.ID, ct.Labels
		v.exposed = slices.Clone(ct.Exposed)
		for _, s := range ct.sharers {
			v.Shared = append(v.Shared, s.Name)
			v.exposed = append(v.exposed, s.Exposed...)
		}
	}
	return v
}
