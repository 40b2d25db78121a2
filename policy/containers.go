package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// container is one that Docker runs, with its endpoints on attached bridges.
type container struct {
	*Container
	endpoints []*endpoint
	main      *endpoint    // where its ports lead; nil where it has no endpoint
	owner     *container   // whose network namespace it shares; itself where it has its own; nil where the owner does not run
	sharers   []*container // those that share its own
}

// addContainers matches containers with endpoints. Docker only adds names, labels and ports: an endpoint that no container claims is one all
// the same.
func (c *compiler) addContainers() {
	byID := make(map[string]*container, 2*len(c.o.Containers))
	for i := range c.o.Containers {
		ct := &container{Container: &c.o.Containers[i]}
		c.containers = append(c.containers, ct)
		byID[ct.ID], byID[ct.Name] = ct, ct
	}
	places := c.indexPlaces()
	for _, ct := range c.containers {
		if id, shares := strings.CutPrefix(ct.NetworkMode, "container:"); shares {
			if ct.owner = findOwner(byID, id); ct.owner != nil {
				ct.owner.sharers = append(ct.owner.sharers, ct)
			}
			continue
		}
		ct.owner = ct
		if ct.NetworkMode != "host" && ct.NetworkMode != "none" {
			c.claim(ct, places)
			ct.main = pickMain(ct.endpoints)
		}
	}
}

// findOwner follows container:ID, or container:NAME, to the container that has a namespace of its own.
func findOwner(byID map[string]*container, id string) *container {
	for range byID {
		ct := byID[id]
		if ct == nil {
			return nil
		}
		next, shares := strings.CutPrefix(ct.NetworkMode, "container:")
		if !shares {
			return ct
		}
		id = next
	}
	return nil
}

// place is where Docker may say that a container is: on a bridge, by MAC or by address.
type place struct {
	bridge int
	mac    [6]byte
	addr   netip.Addr
}

func (c *compiler) indexPlaces() map[place][]*endpoint {
	places := make(map[place][]*endpoint, 2*len(c.endpoints))
	for _, ep := range c.endpoints {
		if mac := macArray(ep.MAC); mac != [6]byte{} {
			p := place{bridge: ep.Bridge, mac: mac}
			places[p] = append(places[p], ep)
		}
		for _, a := range ep.Addrs {
			p := place{bridge: ep.Bridge, addr: a.Addr().Unmap()}
			places[p] = append(places[p], ep)
		}
	}
	return places
}

// claim finds a container's endpoints: by the bridge of the network and the MAC, which the container cannot have by chance, else by the
// address. A network that is no bridge network (macvlan, overlay) has none.
func (c *compiler) claim(ct *container, places map[place][]*endpoint) {
	for i := range ct.Attachments {
		at := &ct.Attachments[i]
		b := c.bridgeOf(at)
		if b == nil {
			continue
		}
		var found []*endpoint
		if mac := macArray(at.MAC); mac != [6]byte{} {
			found = places[place{bridge: b.Index, mac: mac}]
		}
		byAddr := places[place{bridge: b.Index, addr: at.Addr}]
		if len(found) == 0 && at.Addr.IsValid() {
			found = byAddr
		}
		if ep := pickClaimed(found, byAddr); ep != nil {
			ep.container, ep.attachment = ct, at
			ct.endpoints = append(ct.endpoints, ep)
		}
	}
}

// pickClaimed takes the endpoint that no container has claimed yet. Where several have the same MAC, one that has the address too goes first.
func pickClaimed(found, byAddr []*endpoint) *endpoint {
	var pick *endpoint
	for _, ep := range found {
		if ep.container != nil {
			continue
		}
		if slices.Contains(byAddr, ep) {
			return ep
		}
		if pick == nil {
			pick = ep
		}
	}
	return pick
}

// bridgeOf gives the attached bridge of the network that a container is in, or nil.
func (c *compiler) bridgeOf(at *Attachment) *bridge {
	for _, b := range c.bridges {
		if n := b.network; n != nil && (n.ID == at.NetworkID && n.ID != "" || at.NetworkID == "" && n.Name == at.Network) {
			return b
		}
	}
	return nil
}

// pickMain chooses the endpoint that has the default route, as Docker does: of a network that is not internal and has a gateway, with the
// highest priority, then by the network's name.
func pickMain(eps []*endpoint) *endpoint {
	if len(eps) == 0 {
		return nil
	}
	return slices.MinFunc(eps, func(a, b *endpoint) int {
		return cmp.Or(
			compareBool(a.bridge.internal(), b.bridge.internal()),
			compareBool(!a.attachment.Gateway.IsValid(), !b.attachment.Gateway.IsValid()),
			cmp.Compare(b.attachment.GwPriority, a.attachment.GwPriority),
			strings.Compare(a.attachment.Network, b.attachment.Network),
		)
	})
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
