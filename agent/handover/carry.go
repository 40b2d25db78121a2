package handover

import (
	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// offloadSeconds is OFFLOAD_SECONDS of bpf/offload.h.
const offloadSeconds = 2

const protoUDP = 17

// Carry makes a flow of an established connection that stays the kernel's: its rules go on deciding about it, so its entries carry nothing until
// a packet has passed them. second is the ticks in one. Out: false for a connection that the kernel carries by itself: one that is being opened
// or closed or has had no answer, one of the host's own, one of no container that is asked for, one whose packets change beyond addresses and
// ports, and any but TCP and UDP.
func (w *World) Carry(e *conntrack.Entry, second uint32) (*maps.Adoption, bool) {
	const established = conntrack.SeenReply | conntrack.Assured
	if e.Adjusted || e.Status&established != established {
		return nil, false
	}
	if e.Orig.Proto != protoUDP && (e.Orig.Proto != protoTCP || e.TCP != conntrack.TCPEstablished) {
		return nil, false
	}
	from, to := w.end(e.Orig.Src.Addr()), w.end(e.Reply.Src.Addr())
	if from.ep == nil && to.ep == nil || !w.wanted(from) || !w.wanted(to) || w.isHost(from.addr) || w.isHost(to.addr) {
		return nil, false
	}
	flags, path := flagOffload|flagAnswered, bpf.DatapathFlowPathPATH_LOCAL
	switch {
	case to.ep == nil:
		path = bpf.DatapathFlowPathPATH_OUT
	case from.ep == nil:
		path = bpf.DatapathFlowPathPATH_IN
	}
	// What the bridge itself delivers stays as it is, where its packets pass the rules at all (net.bridge.bridge-nf-call-iptables).
	if e.Translated() || path != bpf.DatapathFlowPathPATH_LOCAL || from.ep.Bridge != to.ep.Bridge {
		flags |= flagRouted
	}
	if e.Reply.Dst != e.Orig.Src {
		flags |= flagSNAT
	}
	if e.Reply.Src != e.Orig.Dst {
		flags |= flagDNAT
	}
	a, ok := w.entries(e, from, to, path, flags)
	if !ok {
		return nil, false
	}
	published, _ := w.publishedAt(e)
	for _, f := range []*bpf.Flow{&a.Flow, &a.Reply} {
		f.Judged, f.Synced = w.Now-offloadSeconds*second, w.Now-1
		f.PublishSlot = published.Slot
	}
	return a, true
}

// Carried tells whether an entry is that of an offloaded flow that does what a does.
func Carried(f, a *bpf.Flow) bool {
	return f.Flags&flagOffload != 0 && f.Saddr == a.Saddr && f.Daddr == a.Daddr && f.Sport == a.Sport && f.Dport == a.Dport && f.Flags == a.Flags &&
		f.SrcId == a.SrcId && f.DstId == a.DstId
}

// InPlaceOf tells whether an entry that stands under a's key has to make room for it: it is offloaded too, the kernel carries it, or it is of the
// same containers.
func InPlaceOf(f, a *bpf.Flow) bool {
	return f.Flags&(flagOffload|flagKernel) != 0 || f.SrcId == a.SrcId && f.DstId == a.DstId
}

// Keys are those under which the originator's entry of a connection may stand, whoever its ends are.
func Keys(e *conntrack.Entry) [2]bpf.FlowKey {
	return [2]bpf.FlowKey{key(e.Orig, bpf.DatapathZoneZONE_LOCAL), key(e.Orig, bpf.DatapathZoneZONE_WIRE)}
}

// Of tells whether an entry is that of an offloaded connection.
func Of(f *bpf.Flow, e *conntrack.Entry) bool {
	to := e.Reply.Inverse()
	return f.Flags&flagOffload != 0 && f.Saddr == bpf.Addr(to.Src.Addr()) && f.Daddr == bpf.Addr(to.Dst.Addr()) &&
		f.Sport == bpf.Port(to.Src.Port()) && f.Dport == bpf.Port(to.Dst.Port())
}

// Offloaded tells whether a flow is one that Carry made, and the tuples of the connection that it is of.
func Offloaded(r *maps.FlowRow) (conntrack.Entry, bool) {
	made := tuple(r.Flow.Saddr, r.Flow.Daddr, r.Flow.Sport, r.Flow.Dport, r.Key.Proto)
	return conntrack.Entry{Orig: tuple(r.Key.Saddr, r.Key.Daddr, r.Key.Sport, r.Key.Dport, r.Key.Proto), Reply: made.Inverse()},
		r.Flow.Flags&flagOffload != 0
}
