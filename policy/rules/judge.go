package rules

import (
	"net/netip"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Verdict is what the rules say of a flow, and which rule for each side: empty where none is asked.
type Verdict struct {
	Egress, Ingress Side
}

// Side is what the rules of one end say.
type Side struct {
	Asked bool // rules select this end for this direction
	Allow bool
	Rule  string
}

// Allow tells whether the flow may begin.
func (v Verdict) Allow() bool { return v.Egress.Allow && v.Ingress.Allow }

// Rule is the rule that decided: the one that refuses, or else the receiver's, or else the sender's.
func (v Verdict) Rule() string {
	switch {
	case !v.Egress.Allow, !v.Ingress.Asked:
		return v.Egress.Rule
	default:
		return v.Ingress.Rule
	}
}

// Judge asks what the datapath asks, in the same way: whether from may dial a port of to. The port is the container's own, where a published
// one is dialled.
func (c *Compiled) Judge(from, to netip.Addr, proto uint8, port uint16) Verdict {
	if c == nil {
		return Verdict{Side{Allow: true}, Side{Allow: true}}
	}
	f, fromPod := c.Policy.Idents[bpf.AddrKey{Addr: bpf.Addr(from)}]
	t, toPod := c.Policy.Idents[bpf.AddrKey{Addr: bpf.Addr(to)}]
	_, fromPodNamed := c.Addrs[from]
	_, toPodNamed := c.Addrs[to]
	if !fromPod && !fromPodNamed {
		f.Class = c.classOf(from)
	}
	if !toPod && !toPodNamed {
		t.Class = c.classOf(to)
	}
	eg, in := f.Egress, t.Ingress
	if a, ok := c.Addrs[from]; ok {
		if b, same := c.Addrs[to]; same && a == b {
			eg, in = 0, 0 // nobody is kept from himself
		}
	}
	if pair, ok := c.Policy.Pairs[bpf.PairKey{From: f.Class, To: t.Class}]; ok {
		if eg != 0 {
			eg = pair.Egress
		}
		if in != 0 {
			in = pair.Ingress
		}
	}
	return Verdict{Egress: c.side(eg, proto, port), Ingress: c.side(in, proto, port)}
}

// classOf gives the class of an address that is no pod's.
func (c *Compiled) classOf(a netip.Addr) uint32 {
	for bits := 32; bits >= 0; bits-- {
		p, err := a.Prefix(bits)
		if err != nil {
			return 0
		}
		if k, ok := c.Policy.Classes[bpf.ClassKey{Prefixlen: 32 + uint32(bits), Addr: bpf.Addr(p.Addr())}]; ok {
			return k.Class
		}
	}
	return 0
}

func (c *Compiled) side(profile bpf.ProfileID, proto uint8, port uint16) Side {
	if profile == bpf.DatapathProfileIdPROFILE_OPEN {
		return Side{Allow: true}
	}
	for bits := portBits; bits >= rootBits; bits-- {
		k := bpf.ProfileKey{Prefixlen: uint32(bits), Profile: uint32(profile)}
		if bits >= protoBits {
			k.Proto = proto
			k.Port = bpf.Port(port &^ (1<<(portBits-bits) - 1))
		}
		if v, ok := c.Policy.Profiles[k]; ok {
			return Side{true, v.Allow == 1, c.Rules[v.Rule]}
		}
	}
	return Side{Asked: true}
}
