package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

func portSlotsOf(r Result) map[string]uint16 {
	out := make(map[string]uint16)
	for _, p := range r.Ports {
		out[p.Spec.String()] = p.Slot
	}
	return out
}

// A range has one slot, which every port of it counts in; a port keeps its slot while it leads to the same endpoint, an agent's restart
// included, and what is given up is not another's before that has been settled. L-5
func TestPublishedPortsKeepTheirSlots(t *testing.T) {
	slots := Slots{Endpoints: 100, Bridges: 10, Published: 4}
	ids := NewIdentities(maps.State{}, slots)
	in := onDocker0()
	in.Publish = user(t, "9000-9009:90-99", "web", "70:70", "web")
	r := Compile(machine(), in, ids)
	want := map[string]uint16{"9000-9009:90-99/tcp": 1, "70:70/tcp": 2}
	if diff := cmp.Diff(want, portSlotsOf(r)); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]uint16{1, 2}, r.Turnover.AddedPorts); diff != "" {
		t.Error(diff)
	}
	count := make(map[uint16]int)
	for _, v := range r.State.Publish {
		count[v.Slot]++
	}
	if diff := cmp.Diff(map[uint16]int{1: 10, 2: 1}, count); diff != "" {
		t.Errorf("entries by slot:\n%s", diff)
	}
	ids.Settle(r.Turnover)

	// The first one goes: its slot waits for Settle.
	in.Publish = user(t, "60:60", "web", "70:70", "web")
	second := Compile(machine(), in, ids)
	if diff := cmp.Diff(map[string]uint16{"60:60/tcp": 3, "70:70/tcp": 2}, portSlotsOf(second)); diff != "" {
		t.Error(diff)
	}
	ids.Settle(second.Turnover)

	// Another agent reads the maps.
	state := second.State
	again := Compile(machine(), in, NewIdentities(state, slots))
	if diff := cmp.Diff(portSlotsOf(second), portSlotsOf(again)); diff != "" {
		t.Errorf("after a restart:\n%s", diff)
	}
	if len(again.Turnover.AddedPorts) != 0 {
		t.Errorf("a restart clears the counters in %v", again.Turnover.AddedPorts)
	}

	// There is room for three; the others are carried without being counted.
	in.Publish = user(t, "60:60", "web", "70:70", "web", "61:61", "web", "62:62", "web")
	full := Compile(machine(), in, ids)
	if diff := cmp.Diff(map[string]uint16{"60:60/tcp": 3, "70:70/tcp": 2, "61:61/tcp": 1, "62:62/tcp": 0}, portSlotsOf(full)); diff != "" {
		t.Error(diff)
	}
	if _, there := full.State.Publish[bpf.PublishKey{Port: bpf.Port(62), Proto: ProtoTCP}]; !there {
		t.Error("what is not counted is not published")
	}
}
