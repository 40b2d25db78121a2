package maps

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Every entry of both tables is told, with its counters, and both directions of a flow are.
func TestFlowEntries(t *testing.T) {
	m, o := newMaps(t, nil)
	orig, reply := masqueraded(1001)
	orig.flow.Bytes, reply.flow.Bytes = 100, 200
	fresh, _ := masqueraded(1002)
	fresh.flow.Bytes = 7
	put(t, o.Flows4, orig, reply)
	put(t, o.Flows4New, fresh)
	got := map[bpf.FlowKey]uint64{}
	if err := m.FlowEntries(func(key *bpf.FlowKey, f *bpf.Flow) { got[*key] = f.Bytes }); err != nil {
		t.Fatal(err)
	}
	want := map[bpf.FlowKey]uint64{orig.key: 100, reply.key: 200, fresh.key: 7}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got)\n%s", diff)
	}
}
