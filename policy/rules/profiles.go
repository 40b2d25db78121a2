package rules

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// write fills the maps' content.
func (c *compiler) write() {
	defaults := make([][directions]bpf.ProfileID, len(c.classes))
	for i := range c.classes {
		for d := range directions {
			defaults[i][d] = c.profile(i, d, -1, nil)
		}
	}
	for i := range c.pods {
		k := &c.classes[c.podClass[i]]
		ident := bpf.Ident{Class: k.id, Egress: defaults[c.podClass[i]][egress], Ingress: defaults[c.podClass[i]][ingress]}
		if ident == (bpf.Ident{}) {
			continue
		}
		for _, a := range c.pods[i].Addrs {
			if a.Is4() {
				c.out.Policy.Idents[bpf.AddrKey{Addr: bpf.Addr(a)}] = ident
			}
		}
	}
	for i := range c.classes {
		for d := range directions {
			if len(c.classes[i].subjects[d]) > 0 {
				c.writePairs(i, d, defaults)
			}
		}
	}
}

// writePairs enters what the rules that select a class say of others.
func (c *compiler) writePairs(i int, d direction, defaults [][directions]bpf.ProfileID) {
	by := map[int][]*rule{}
	for _, s := range c.classes[i].subjects[d] {
		for r := range c.subjects[s].rules[d] {
			rule := &c.subjects[s].rules[d][r]
			for _, p := range rule.peers {
				for _, other := range c.members[p] {
					if had := by[other]; len(had) == 0 || had[len(had)-1] != rule {
						by[other] = append(had, rule)
					}
				}
			}
		}
	}
	// A port's name is the dialled container's: even what is for all may be another port at each.
	if d == egress && c.namesPorts(i) {
		for other := range c.classes {
			if len(c.classes[other].ports) > 0 && by[other] == nil {
				by[other] = nil
			}
		}
	}
	for other, rules := range by {
		profile := c.profile(i, d, other, rules)
		if profile == defaults[i][d] {
			continue
		}
		from, to := i, other
		if d == ingress {
			from, to = other, i
		}
		// Class 0 is everybody else, and has no pair.
		if c.classes[other].id == 0 {
			continue
		}
		key := bpf.PairKey{From: c.classes[from].id, To: c.classes[to].id}
		pair, there := c.out.Policy.Pairs[key]
		if !there {
			pair = bpf.Pair{Egress: defaults[from][egress], Ingress: defaults[to][ingress]}
		}
		if d == ingress {
			pair.Ingress = profile
		} else {
			pair.Egress = profile
		}
		c.out.Policy.Pairs[key] = pair
	}
}

// namesPorts tells whether a rule for all that a class may send names a port.
func (c *compiler) namesPorts(i int) bool {
	for _, s := range c.classes[i].subjects[egress] {
		for _, r := range c.subjects[s].rules[egress] {
			for _, p := range r.ports {
				if r.any && p.name != "" {
					return true
				}
			}
		}
	}
	return false
}

// profile gives the profile of a class in a direction, towards another or, where that is -1, towards everybody whom no rule names: the ports
// of the rules that are for all, and of those that name the other.
func (c *compiler) profile(i int, d direction, other int, named []*rule) bpf.ProfileID {
	k := &c.classes[i]
	if len(k.subjects[d]) == 0 {
		return bpf.DatapathProfileIdPROFILE_OPEN
	}
	names := k.ports
	if d == egress {
		names = nil
		if other >= 0 {
			names = c.classes[other].ports
		}
	}
	var rules []*rule
	for _, s := range k.subjects[d] {
		for r := range c.subjects[s].rules[d] {
			if c.subjects[s].rules[d][r].any {
				rules = append(rules, &c.subjects[s].rules[d][r])
			}
		}
	}
	rules = append(rules, named...)
	entries := map[bpf.ProfileKey]bpf.Profile{}
	for _, r := range rules {
		c.addPorts(entries, r, names)
	}
	root := bpf.ProfileKey{Prefixlen: rootBits}
	if _, all := entries[root]; all {
		// Nothing else of it would ever be asked for.
		entries = map[bpf.ProfileKey]bpf.Profile{root: entries[root]}
	} else {
		entries[root] = bpf.Profile{Rule: c.names(c.refusal(k.subjects[d]))}
	}
	return c.number(entries)
}

// Bits of a profile's key, from the set on: of the profile alone, with the protocol, and with the port.
const (
	rootBits  = 64
	protoBits = 80
	portBits  = 96
)

// addPorts enters what a rule lets pass. Where two let the same pass, the first is told of.
func (c *compiler) addPorts(entries map[bpf.ProfileKey]bpf.Profile, r *rule, names map[string][]namedPort) {
	verdict := bpf.Profile{Allow: 1, Rule: c.names(r.name)}
	put := func(k bpf.ProfileKey) {
		if _, there := entries[k]; !there {
			entries[k] = verdict
		}
	}
	if r.all {
		put(bpf.ProfileKey{Prefixlen: rootBits})
		return
	}
	for _, p := range r.ports {
		switch {
		case p.name != "":
			for _, n := range names[p.name] {
				if n.proto == p.proto {
					put(bpf.ProfileKey{Prefixlen: portBits, Proto: n.proto, Port: bpf.Port(n.port)})
				}
			}
		case p.whole:
			put(bpf.ProfileKey{Prefixlen: protoBits, Proto: p.proto})
		default:
			for _, part := range split(p.lo, p.hi) {
				put(bpf.ProfileKey{Prefixlen: protoBits + part.bits, Proto: p.proto, Port: bpf.Port(part.port)})
			}
		}
	}
}

// number gives a profile its number and enters it.
func (c *compiler) number(entries map[bpf.ProfileKey]bpf.Profile) bpf.ProfileID {
	content := profileContent(entries)
	if id, ok := c.memo[content]; ok {
		return bpf.ProfileID(id)
	}
	id := c.numbers.profiles.give(content)
	c.memo[content] = id
	for k, v := range entries {
		k.Profile = id
		c.out.Policy.Profiles[k] = v
	}
	return bpf.ProfileID(id)
}

// profileContent tells one profile from another. The numbers of rules are theirs for good.
func profileContent(entries map[bpf.ProfileKey]bpf.Profile) string {
	lines := make([]string, 0, len(entries))
	for k, v := range entries {
		b := make([]byte, 0, 16)
		b = binary.BigEndian.AppendUint32(b, k.Prefixlen)
		b = append(b, k.Proto)
		b = binary.BigEndian.AppendUint16(b, k.Port)
		b = append(b, byte(v.Allow))
		b = binary.BigEndian.AppendUint32(b, v.Rule)
		lines = append(lines, string(b))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// part is ports that begin with the same bits.
type part struct {
	port uint16
	bits uint32
}

// split gives the fewest parts that make up a range of ports.
func split(lo, hi uint16) []part {
	var parts []part
	for at, end := uint32(lo), uint32(hi); at <= end; {
		size := uint32(1) << 16
		if at != 0 {
			size = 1 << bits.TrailingZeros32(at)
		}
		for at+size-1 > end {
			size >>= 1
		}
		parts = append(parts, part{uint16(at), uint32(16 - bits.TrailingZeros32(size))})
		at += size
	}
	return parts
}

func (p part) String() string { return fmt.Sprintf("%d/%d", p.port, p.bits) }
