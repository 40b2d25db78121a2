package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

func identities(r Result) map[string]Identity {
	out := make(map[string]Identity)
	for _, ep := range r.Endpoints {
		out[ep.Veth] = ep.Identity
	}
	return out
}

func TestIdentitiesKeep(t *testing.T) {
	ids := newIDs()
	first := Compile(machine(), onDocker0(), ids)
	ids.Settle(first.Turnover)
	o := machine()
	o.Containers[0].Name = "renamed"
	o.Endpoints[0].Addrs = prefixes("172.17.0.22/16")
	second := Compile(o, onDocker0(), ids)
	if diff := cmp.Diff(identities(first), identities(second)); diff != "" {
		t.Errorf("a new name or address made a new identity:\n%s", diff)
	}
	if diff := cmp.Diff(Turnover{}, second.Turnover, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("turnover:\n%s", diff)
	}
}

// A restarted container, another namespace behind the veth, and another MAC are all other endpoints. E-16, G-12
func TestIdentitiesChange(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Endpoint)
	}{
		{"veth", func(e *Endpoint) { e.Index, e.Veth = 21, "veth21" }},
		{"namespace", func(e *Endpoint) { e.NSID = 7 }},
		{"mac", func(e *Endpoint) { e.MAC = mac(0x66) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ids := newIDs()
			r := Compile(machine(), onDocker0(), ids)
			ids.Settle(r.Turnover)
			o := machine()
			tc.change(&o.Endpoints[0])
			r = Compile(o, onDocker0(), ids)
			index := o.Endpoints[0].Index
			want := Turnover{
				Added: []Identity{{Index: index, ID: 3, Slot: 2}},
				Gone:  []Identity{{Index: 11, ID: 1, Slot: 0}},
			}
			if diff := cmp.Diff(want, r.Turnover, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got := r.State.Endpoints[key("172.17.0.2")].Id; got != 3 {
				t.Errorf("the address has id %d, want 3", got)
			}
			// Until it is settled, the slot is not used again, and the turnover is told again.
			again := Compile(o, onDocker0(), ids)
			if diff := cmp.Diff(r.Turnover, again.Turnover); diff != "" {
				t.Errorf("not reported again:\n%s", diff)
			}
			ids.Settle(again.Turnover)
			o.Endpoints = append(o.Endpoints, Endpoint{Veth: "veth30", Index: 30, Bridge: docker0, NSID: 30, MAC: mac(30)})
			r = Compile(o, onDocker0(), ids)
			want = Turnover{Added: []Identity{{Index: 30, ID: 4, Slot: 0}}}
			if diff := cmp.Diff(want, r.Turnover, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after settling (-want +got)\n%s", diff)
			}
		})
	}
}

// What comes and goes between two settlements has to be told as gone only.
func TestIdentitiesComeAndGo(t *testing.T) {
	ids := newIDs()
	Compile(machine(), onDocker0(), ids)
	o := machine()
	o.Endpoints = o.Endpoints[:1]
	r := Compile(o, onDocker0(), ids)
	want := Turnover{
		Added:       []Identity{{Index: 11, ID: 1, Slot: 0}},
		Gone:        []Identity{{Index: 12, ID: 2, Slot: 1}},
		AddedBridge: []Identity{{Index: docker0}},
	}
	if diff := cmp.Diff(want, r.Turnover, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	ids.Settle(r.Turnover)
	ids.Settle(r.Turnover) // a second time changes nothing
	r = Compile(machine(), onDocker0(), ids)
	if got := identities(r)["veth2"]; got != (Identity{Index: 12, ID: 3, Slot: 1}) {
		t.Errorf("came back as %+v", got)
	}
}

func TestIdentitiesSeeded(t *testing.T) {
	ids := newIDs()
	before := Compile(machine(), onDocker0(), ids)
	for _, tc := range []struct {
		name   string
		have   func(*maps.State)
		change func(*Observed)
		want   map[string]Identity
		next   uint32
	}{
		{"nothing changed", func(*maps.State) {}, func(*Observed) {},
			map[string]Identity{"veth1": {11, 1, 0}, "veth2": {12, 2, 1}}, 3},
		{"the next id is not known", func(s *maps.State) { s.NextID = 0 }, func(o *Observed) { o.Endpoints[0].Index = 21 },
			map[string]Identity{"veth1": {21, 3, 2}, "veth2": {12, 2, 1}}, 4},
		{"ids have been given to endpoints that are gone", func(s *maps.State) { s.NextID = 100 }, func(o *Observed) { o.Endpoints[0].Index = 21 },
			map[string]Identity{"veth1": {21, 100, 2}, "veth2": {12, 2, 1}}, 101},
		{"another MAC on the ifindex", func(*maps.State) {}, func(o *Observed) { o.Endpoints[0].MAC = mac(0x55) }, // G-12
			map[string]Identity{"veth1": {11, 3, 2}, "veth2": {12, 2, 1}}, 4},
		{"no address was known", func(s *maps.State) { s.Endpoints = nil }, func(*Observed) {},
			map[string]Identity{"veth1": {11, 1, 0}, "veth2": {12, 2, 1}}, 3},
		{"a slot beyond the counters", func(s *maps.State) { s.Veths[12] = bpf.Veth{Bridge: docker0, Id: 2, Slot: 5000} }, func(*Observed) {},
			map[string]Identity{"veth1": {11, 1, 0}, "veth2": {12, 3, 1}}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			have := maps.State{Endpoints: before.State.Endpoints, Bridges: before.State.Bridges, NextID: before.State.NextID,
				Veths: map[uint32]bpf.Veth{11: before.State.Veths[11], 12: before.State.Veths[12]}}
			tc.have(&have)
			o := machine()
			tc.change(&o)
			r := Compile(o, onDocker0(), NewIdentities(have, Slots{Endpoints: 1024, Bridges: 64}))
			if diff := cmp.Diff(tc.want, identities(r)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if r.State.NextID != tc.next {
				t.Errorf("next id %d, want %d", r.State.NextID, tc.next)
			}
			if len(r.Turnover.AddedBridge) > 0 || len(r.Turnover.GoneBridge) > 0 {
				t.Errorf("the bridge has another slot: %+v", r.Turnover)
			}
		})
	}
}

func TestIdentitiesWrap(t *testing.T) {
	have := maps.State{Veths: map[uint32]bpf.Veth{12: {Id: 1, Slot: 0}}, NextID: 0xffffffff}
	o := machine()
	o.Endpoints = append(o.Endpoints, Endpoint{Veth: "veth3", Index: 13, Bridge: docker0, NSID: 3, MAC: mac(9)})
	r := Compile(o, onDocker0(), NewIdentities(have, Slots{Endpoints: 9, Bridges: 9}))
	want := map[string]Identity{"veth1": {11, 0xffffffff, 1}, "veth2": {12, 1, 0}, "veth3": {13, 2, 2}} // neither 0 nor 1
	if diff := cmp.Diff(want, identities(r)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r.State.NextID != 3 {
		t.Errorf("next id %d, want 3", r.State.NextID)
	}
}

func TestIdentitiesBridges(t *testing.T) {
	ids := newIDs()
	r := Compile(twoBridges(), all(), ids)
	ids.Settle(r.Turnover)
	slots := func(r Result) map[string]uint16 {
		out := make(map[string]uint16)
		for _, b := range r.Bridges {
			if b.Attached {
				out[b.Name] = b.Slot
			}
		}
		return out
	}
	if diff := cmp.Diff(map[string]uint16{"docker0": 0, "br-front": 1}, slots(r)); diff != "" {
		t.Error(diff)
	}
	o := twoBridges()
	o.Bridges[0].Index = 30 // docker0 was made anew
	for i := range o.Endpoints[:2] {
		o.Endpoints[i].Bridge = 30
	}
	r = Compile(o, all(), ids)
	if diff := cmp.Diff(map[string]uint16{"docker0": 2, "br-front": 1}, slots(r)); diff != "" {
		t.Error(diff)
	}
	want := Turnover{AddedBridge: []Identity{{Index: 30, Slot: 2}}, GoneBridge: []Identity{{Index: docker0, Slot: 0}}}
	if diff := cmp.Diff(want, r.Turnover, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	ids.Settle(r.Turnover)
	r = Compile(twoBridges(), all(), ids)
	if diff := cmp.Diff(map[string]uint16{"docker0": 0, "br-front": 1}, slots(r)); diff != "" {
		t.Errorf("a settled slot is free: %s", diff)
	}
}
