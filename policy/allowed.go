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

// ParseFrom reads addresses that may use a published port: CIDR[,CIDR], where one may be a single address.
func ParseFrom(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(word); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !p.Addr().Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 address, nor ADDRESS/BITS", word)
		}
		if p = p.Masked(); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, comparePrefixes)
	return all, nil
}

func comparePrefixes(a, b netip.Prefix) int {
	if n := a.Addr().Compare(b.Addr()); n != 0 {
		return n
	}
	return a.Bits() - b.Bits()
}

// allowedIn gives the numbers that the maps know lists of addresses by.
func allowedIn(have maps.State) map[string]uint32 {
	by := map[uint32][]netip.Prefix{}
	for k := range have.PublishFrom {
		by[k.Id] = append(by[k.Id], netip.PrefixFrom(bpf.ToAddr(k.Addr), int(k.Prefixlen)-32))
	}
	out := map[string]uint32{}
	for id, list := range by {
		slices.SortFunc(list, comparePrefixes)
		out[fmt.Sprint(list)] = id
	}
	return out
}

// allowed gives the number of a list of addresses and enters it. Another list has another number, so that a port goes from one to the other in
// one step.
func (c *compiler) allowed(list []netip.Prefix) uint32 {
	key := fmt.Sprint(list)
	id, ok := c.ids.allowed[key]
	if !ok {
		for _, other := range c.ids.allowed {
			id = max(id, other)
		}
		id++
		c.ids.allowed[key] = id
	}
	if c.r.State.PublishFrom == nil {
		c.r.State.PublishFrom = map[bpf.PublishFromKey]bpf.PublishFrom{}
	}
	for _, p := range list {
		c.r.State.PublishFrom[bpf.PublishFromKey{Prefixlen: 32 + uint32(p.Bits()), Id: id, Addr: bpf.Addr(p.Addr())}] = bpf.PublishFrom{Allow: 1}
	}
	return id
}

// restrict says of a published port who may use it: as its intent says, or the label of its container. Out: the addresses, for the command
// line to show.
func (c *compiler) restrict(to target, p PublishIntent) (from []netip.Prefix, id, uplink uint32) {
	from = p.From
	ep := &c.r.Endpoints[to.endpoint]
	text, labelled := ep.Labels[labelPublishFrom]
	switch {
	case len(from) > 0:
		id = c.allowed(from)
	case labelled:
		var err error
		if from, err = ParseFrom(text); err != nil {
			c.problem("container %s has the label %s=%s: %v: nobody but this host uses its published ports until it is made anew without the mistake",
				ep.Name, labelPublishFrom, text, err)
		}
		id = c.allowed(from)
	}
	if p.Uplink == "" {
		return from, id, 0
	}
	i := slices.IndexFunc(c.o.Uplinks, func(u Uplink) bool { return u.Name == p.Uplink })
	if i < 0 {
		c.problem("published port %s is only for what comes by %s, and there is no such device now", p.Spec, p.Uplink)
		return from, id, math.MaxUint32
	}
	return from, id, uint32(c.o.Uplinks[i].Index)
}
