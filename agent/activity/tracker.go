package activity

import (
	"hash/maphash"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Ends of a flow that are no container. Endpoint ids begin with 1 and do not come near the other end.
const (
	Outside uint32 = 0
	Host    uint32 = 1<<32 - 1
)

// Pair is one direction between two ends: endpoint ids, Outside or Host.
type Pair struct{ From, To uint32 }

// Service is a published port of a container, as it is dialled.
type Service struct {
	Proto  uint8
	Port   uint16
	Target uint32 // endpoint id
}

// Traffic is a number of packets and their bytes, link-layer headers included.
type Traffic struct{ Packets, Bytes uint64 }

// maxTracked is how many entries of the flow tables are followed: about 6 MB. What is beyond them is not counted, and Partial says so.
const maxTracked = 1 << 17

// Tracker follows flows from one walk over the flow tables to the next. It is for one goroutine.
type Tracker struct {
	limit int
	seed  maphash.Seed
	walk  uint32
	known map[uint64]known // by the hash of an entry's key

	// What the walks so far have found. The maps are the Tracker's own.
	Pairs   map[Pair]Traffic // since the first walk after New or Forget; what flows had counted by then is in it
	Partial bool             // there were more entries in the last walk than are followed

	// What the last walk has found.
	Flows    map[uint32]int // of each endpoint, and of Host; a flow between two counts for both
	Services map[Service]int
}

// known is what an entry had counted when it was met last.
type known struct {
	Traffic
	walk uint32
}

// New makes a Tracker that knows nothing.
func New() *Tracker {
	t := &Tracker{limit: maxTracked}
	t.Forget()
	return t
}

// Forget gives back the memory of all walks so far.
func (t *Tracker) Forget() {
	*t = Tracker{limit: t.limit, seed: maphash.MakeSeed(), known: map[uint64]known{}, Pairs: map[Pair]Traffic{}}
}

// Begin begins a walk.
func (t *Tracker) Begin() {
	t.walk++
	t.Partial = false
	t.Flows, t.Services = map[uint32]int{}, map[Service]int{}
}

// Add counts one entry of the flow tables. An entry that is met twice in a walk counts once.
func (t *Tracker) Add(key *bpf.FlowKey, f *bpf.Flow) {
	h := maphash.Comparable(t.seed, *key)
	before, met := t.known[h]
	if !met && len(t.known) >= t.limit {
		t.Partial = true
		return
	}
	if before.walk != t.walk && f.Flags&bpf.DatapathFlowFlagFLOW_REPLY == 0 {
		t.count(key, f)
	}
	now := Traffic{f.Packets, f.Bytes}
	if now.Packets < before.Packets || now.Bytes < before.Bytes {
		before.Traffic = Traffic{} // it is another flow by now, or the same, learnt anew
	}
	t.known[h] = known{now, t.walk}
	pair := Pair{end(f.SrcId, f), end(f.DstId, f)}
	sum := t.Pairs[pair]
	sum.Packets += now.Packets - before.Packets
	sum.Bytes += now.Bytes - before.Bytes
	t.Pairs[pair] = sum
}

// count notes a flow, told by its originator's entry.
func (t *Tracker) count(key *bpf.FlowKey, f *bpf.Flow) {
	src, dst := end(f.SrcId, f), end(f.DstId, f)
	if src != Outside {
		t.Flows[src]++
	}
	if dst != Outside && dst != src {
		t.Flows[dst]++
	}
	if f.DstId != 0 && (key.Daddr != f.Daddr || key.Dport != f.Dport) {
		t.Services[Service{key.Proto, bpf.ToPort(key.Dport), f.DstId}]++
	}
}

// End ends a walk: entries that it has not met are gone.
func (t *Tracker) End() {
	for h, k := range t.known {
		if k.walk != t.walk {
			delete(t.known, h)
		}
	}
}

// end tells whom an endpoint id stands for in a flow: what is no container is the host on the host's own path, and elsewhere outside.
func end(id uint32, f *bpf.Flow) uint32 {
	switch {
	case id != 0:
		return id
	case f.Path == bpf.DatapathFlowPathPATH_HOST:
		return Host
	default:
		return Outside
	}
}
