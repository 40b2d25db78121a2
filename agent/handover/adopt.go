package handover

import (
	"math/bits"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// World is what flows are made under.
type World struct {
	State   maps.State      // what the maps are to hold
	Bridges map[uint32]bool // whose flows are taken over, by ifindex
	Epoch   uint32
	Now     uint32 // in ticks
	// Route gives the way of a packet from a container behind a bridge: the device, and the next hop, which is dst where that is on the link.
	Route func(bridge uint32, src, dst netip.Addr) (oif uint32, nexthop netip.Addr, ok bool)
}

// Protocols (IPPROTO_*).
const (
	protoICMP = 1
	protoTCP  = 6
)

const (
	flagReply    = bpf.DatapathFlowFlagFLOW_REPLY
	flagDNAT     = bpf.DatapathFlowFlagFLOW_DNAT
	flagSNAT     = bpf.DatapathFlowFlagFLOW_SNAT
	flagRouted   = bpf.DatapathFlowFlagFLOW_ROUTED
	flagAnswered = bpf.DatapathFlowFlagFLOW_ANSWERED
	flagKernel   = bpf.DatapathFlowFlagFLOW_KERNEL
	flagOffload  = bpf.DatapathFlowFlagFLOW_OFFLOAD

	finBoth = bpf.DatapathTcpSeenTCP_FIN | bpf.DatapathTcpSeenTCP_FIN_REPLY
)

// end is one end of a flow: a container, or whoever is beyond an uplink.
type end struct {
	ep   *bpf.Endpoint // nil: beyond an uplink
	addr netip.Addr    // its own
}

// Adopt makes a flow of a connection that the kernel translates for one of the bridges' containers. Out: false for one that is left to the
// kernel: it translates nothing, it changes more than addresses and ports, it is just being opened or closed, or it is not one that the
// datapath would carry.
func (w *World) Adopt(e *conntrack.Entry) (*maps.Adoption, bool) {
	if !e.Translated() || e.Adjusted || (e.Orig.Proto == protoTCP && e.TCP != conntrack.TCPEstablished) {
		return nil, false
	}
	// The originator's own address is what it sends from; the target's is what its answers come from.
	from, to := w.end(e.Orig.Src.Addr()), w.end(e.Reply.Src.Addr())
	if from.ep == nil && to.ep == nil || !w.wanted(from) || !w.wanted(to) {
		return nil, false
	}
	snat, dnat := e.Reply.Dst != e.Orig.Src, e.Reply.Src != e.Orig.Dst
	if dnat && !w.published(e) || snat && !w.isHost(e.Reply.Dst.Addr()) {
		return nil, false
	}
	flags := flagRouted
	path := bpf.DatapathFlowPathPATH_LOCAL
	switch {
	case to.ep == nil && !dnat:
		path = bpf.DatapathFlowPathPATH_OUT
	case from.ep == nil && dnat && !snat && !w.isHost(from.addr):
		path = bpf.DatapathFlowPathPATH_IN
	case from.ep != nil && to.ep != nil && dnat:
	default:
		return nil, false
	}
	if snat {
		flags |= flagSNAT
	}
	if dnat {
		flags |= flagDNAT
	}
	if e.Status&conntrack.SeenReply != 0 {
		flags |= flagAnswered
	}
	return w.entries(e, from, to, path, flags)
}

// entries fills in both directions.
func (w *World) entries(e *conntrack.Entry, from, to end, path bpf.FlowPath, flags bpf.FlowFlag) (*maps.Adoption, bool) {
	a := &maps.Adoption{
		Key: key(e.Orig, w.zone(from)), ReplyKey: key(e.Reply, w.zone(to)),
		Flow: w.flow(e.Reply.Inverse(), path, flags), Reply: w.flow(e.Orig.Inverse(), path, flags|flagReply),
	}
	if e.Orig.Proto == protoTCP {
		a.Flow.Tcp = bpf.DatapathTcpSeenTCP_SYN | bpf.DatapathTcpSeenTCP_SYN_REPLY
		a.Reply.Tcp = a.Flow.Tcp
	}
	if !w.lead(&a.Flow, from, to) || !w.lead(&a.Reply, to, from) {
		return nil, false
	}
	for _, p := range []struct{ one, other *bpf.Flow }{{&a.Flow, &a.Reply}, {&a.Reply, &a.Flow}} {
		p.one.Iif = p.other.Oif
		p.one.PartnerVerb = p.other.Verb
	}
	a.Flow.PartnerZone, a.Reply.PartnerZone = a.ReplyKey.Zone, a.Key.Zone
	bridge := from.ep
	if bridge == nil {
		bridge = to.ep
	}
	a.Flow.BridgeSlot = w.State.Bridges[bridge.Bridge].Slot
	a.Reply.BridgeSlot = a.Flow.BridgeSlot
	setDiffs(&a.Key, &a.Flow)
	setDiffs(&a.ReplyKey, &a.Reply)
	return a, true
}

// lead says where the packets of a direction go, and who the ends are.
func (w *World) lead(f *bpf.Flow, from, to end) bool {
	if from.ep != nil {
		f.SrcId, f.SrcSlot = from.ep.Id, from.ep.Slot
	}
	if to.ep != nil {
		f.DstId, f.DstSlot = to.ep.Id, to.ep.Slot
		f.Verb, f.Oif, f.Mtu = bpf.DatapathVerbVERB_PEER, to.ep.Ifindex, to.ep.Mtu
		f.Dmac, f.Smac = to.ep.Mac, w.State.Bridges[to.ep.Bridge].Mac
		return true
	}
	oif, nexthop, ok := w.Route(from.ep.Bridge, from.addr, to.addr)
	uplink, attached := w.State.Uplinks[oif]
	if !ok || !attached {
		return false
	}
	f.Verb, f.Oif, f.Nexthop, f.Mtu = bpf.DatapathVerbVERB_NEIGH, oif, bpf.Addr(nexthop), uplink.Mtu
	return true
}

// flow is an entry with what both directions have alike. to is what its packets become.
func (w *World) flow(to conntrack.Tuple, path bpf.FlowPath, flags bpf.FlowFlag) bpf.Flow {
	return bpf.Flow{
		Saddr: bpf.Addr(to.Src.Addr()), Daddr: bpf.Addr(to.Dst.Addr()), Sport: bpf.Port(to.Src.Port()), Dport: bpf.Port(to.Dst.Port()),
		Path: path, Flags: flags, Epoch: w.Epoch, Synced: w.Now, Routed: w.Now, Seen: w.Now, Created: w.Now,
	}
}

func (w *World) end(addr netip.Addr) end {
	e := end{addr: addr}
	if ep, ok := w.State.Endpoints[bpf.AddrKey{Addr: bpf.Addr(addr)}]; ok {
		e.ep = &ep
	}
	return e
}

// wanted says whether an end stands in nobody's way: it is no container, or one of the bridges whose flows are taken over.
func (w *World) wanted(e end) bool { return e.ep == nil || w.Bridges[e.ep.Bridge] }

func (w *World) zone(e end) bpf.Zone {
	if e.ep != nil {
		return bpf.DatapathZoneZONE_LOCAL
	}
	return bpf.DatapathZoneZONE_WIRE
}

func (w *World) isHost(addr netip.Addr) bool {
	_, ok := w.State.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(addr)}]
	return ok
}

// published says whether the maps lead the connection to where the kernel does: an entry that they do not agree with would not live long.
func (w *World) published(e *conntrack.Entry) bool {
	_, ok := w.publishedAt(e)
	return ok
}

// publishedAt gives the port by which the connection came, where the maps lead it to where the kernel does.
func (w *World) publishedAt(e *conntrack.Entry) (bpf.Publish, bool) {
	if !w.isHost(e.Orig.Dst.Addr()) {
		return bpf.Publish{}, false
	}
	k := bpf.PublishKey{Addr: bpf.Addr(e.Orig.Dst.Addr()), Port: bpf.Port(e.Orig.Dst.Port()), Proto: e.Orig.Proto}
	p, ok := w.State.Publish[k]
	if !ok {
		k.Addr = 0
		p, ok = w.State.Publish[k]
	}
	return p, ok && p.Addr == bpf.Addr(e.Reply.Src.Addr()) && p.Port == bpf.Port(e.Reply.Src.Port())
}

func key(t conntrack.Tuple, zone bpf.Zone) bpf.FlowKey {
	return bpf.FlowKey{
		Saddr: bpf.Addr(t.Src.Addr()), Daddr: bpf.Addr(t.Dst.Addr()), Sport: bpf.Port(t.Src.Port()), Dport: bpf.Port(t.Dst.Port()),
		Proto: t.Proto, Zone: zone,
	}
}

// setDiffs fills in what the translation does to checksums, as flow_diffs of flow.h does.
func setDiffs(k *bpf.FlowKey, f *bpf.Flow) {
	f.AddrDiff = diff(k.Saddr, k.Daddr, f.Saddr, f.Daddr)
	f.PortDiff = diff(uint32(k.Sport)<<16|uint32(k.Dport), 0, uint32(f.Sport)<<16|uint32(f.Dport), 0)
}

// diff is what changing two words into two others does to an Internet checksum (RFC 1624); 0 where they are alike.
func diff(from0, from1, to0, to1 uint32) uint32 {
	if from0 == to0 && from1 == to1 {
		return 0
	}
	var sum, carry uint32
	for _, word := range [...]uint32{^from0, ^from1, to0, to1} {
		sum, carry = bits.Add32(sum, word, 0)
		sum += carry
	}
	return sum
}
