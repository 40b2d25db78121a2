package activity

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// entry is an entry of the flow tables, told by what matters here.
type entry struct {
	id       uint32 // makes the key
	src, dst uint32
	path     bpf.FlowPath
	reply    bool
	packets  uint64
	bytes    uint64
	dport    uint16 // as dialled; behind it is 80
}

func walk(t *Tracker, all ...entry) {
	t.Begin()
	for _, e := range all {
		key := bpf.FlowKey{Saddr: e.id, Daddr: 1, Proto: 6, Dport: bpf.Port(80)}
		if e.dport != 0 {
			key.Dport = bpf.Port(e.dport)
		}
		f := bpf.Flow{Daddr: 1, Dport: bpf.Port(80), SrcId: e.src, DstId: e.dst, Path: e.path, Packets: e.packets, Bytes: e.bytes}
		if e.reply {
			f.Flags = bpf.DatapathFlowFlagFLOW_REPLY
		}
		t.Add(&key, &f)
	}
	t.End()
}

func TestTracker(t *testing.T) {
	const in, out, host, local = bpf.DatapathFlowPathPATH_IN, bpf.DatapathFlowPathPATH_OUT, bpf.DatapathFlowPathPATH_HOST, bpf.DatapathFlowPathPATH_LOCAL
	for _, tt := range []struct {
		name     string
		walks    [][]entry
		pairs    map[Pair]Traffic
		flows    map[uint32]int
		services map[Service]int
	}{
		{
			name: "both directions, and a flow that goes on",
			walks: [][]entry{
				{{id: 1, src: 5, path: out, packets: 10, bytes: 1000}, {id: 2, dst: 5, path: out, reply: true, packets: 4, bytes: 400}},
				{{id: 1, src: 5, path: out, packets: 15, bytes: 1500}, {id: 2, dst: 5, path: out, reply: true, packets: 4, bytes: 400}},
			},
			pairs: map[Pair]Traffic{{5, Outside}: {15, 1500}, {Outside, 5}: {4, 400}},
			flows: map[uint32]int{5: 1},
		},
		{
			name:  "what a flow that is gone has counted stays counted",
			walks: [][]entry{{{id: 1, src: 5, dst: 6, path: local, packets: 10, bytes: 1000}}, {}, {{id: 3, src: 5, dst: 6, path: local, packets: 1, bytes: 60}}},
			pairs: map[Pair]Traffic{{5, 6}: {11, 1060}},
			flows: map[uint32]int{5: 1, 6: 1},
		},
		{
			name:  "a tuple that is used again",
			walks: [][]entry{{{id: 1, src: 5, path: out, packets: 10, bytes: 1000}}, {{id: 1, src: 5, path: out, packets: 2, bytes: 200}}},
			pairs: map[Pair]Traffic{{5, Outside}: {12, 1200}},
			flows: map[uint32]int{5: 1},
		},
		{
			name:  "an entry met twice in one walk, as it moves between the tables",
			walks: [][]entry{{{id: 1, src: 5, path: out, packets: 1, bytes: 100}, {id: 1, src: 5, path: out, packets: 2, bytes: 200}}},
			pairs: map[Pair]Traffic{{5, Outside}: {2, 200}},
			flows: map[uint32]int{5: 1},
		},
		{
			name:     "the host, and a published port",
			walks:    [][]entry{{{id: 1, dst: 5, path: host, packets: 1, bytes: 60}, {id: 2, dst: 5, path: in, packets: 1, bytes: 70, dport: 8080}}},
			pairs:    map[Pair]Traffic{{Host, 5}: {1, 60}, {Outside, 5}: {1, 70}},
			flows:    map[uint32]int{Host: 1, 5: 2},
			services: map[Service]int{{6, 8080, 5}: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := New()
			for _, w := range tt.walks {
				walk(tr, w...)
			}
			if tt.services == nil {
				tt.services = map[Service]int{}
			}
			for what, pair := range map[string][2]any{"pairs": {tt.pairs, tr.Pairs}, "flows": {tt.flows, tr.Flows}, "services": {tt.services, tr.Services}} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s (-want +got)\n%s", what, diff)
				}
			}
			if tr.Partial {
				t.Error("partial")
			}
		})
	}
}

// Memory is bounded: what is beyond the limit is left out and told, and forgotten entries make room.
func TestTrackerIsBounded(t *testing.T) {
	tr := New()
	tr.limit = 2
	three := []entry{{id: 1, src: 5, bytes: 1}, {id: 2, src: 5, bytes: 1}, {id: 3, src: 5, bytes: 1}}
	walk(tr, three...)
	if !tr.Partial || len(tr.known) != 2 || tr.Pairs[Pair{5, Outside}].Bytes != 2 {
		t.Errorf("partial %t, %d known, %v", tr.Partial, len(tr.known), tr.Pairs)
	}
	walk(tr)
	walk(tr, three[2])
	if tr.Partial || len(tr.known) != 1 {
		t.Errorf("after the others have gone: partial %t, %d known", tr.Partial, len(tr.known))
	}
	tr.Forget()
	if len(tr.known) != 0 || len(tr.Pairs) != 0 || tr.limit != 2 {
		t.Errorf("after Forget: %+v", tr)
	}
}
