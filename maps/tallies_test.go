package maps

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Hosts that come have counters that begin with 0, those that stay keep what is counted, and those that go lose theirs; what somebody else did to
// the map is seen by the first call and by the one after a Resync.
func TestKeepPeers(t *testing.T) {
	m, o := newMaps(t, nil)
	cpus := ebpf.MustPossibleCPU()
	counted := make([]bpf.PeerCounters, cpus)
	counted[0].Rx.Packets = 5
	put := func(host string) {
		t.Helper()
		if err := o.PeerStats.Put(addrKey(host), counted); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(hosts ...string) {
		t.Helper()
		all := map[bpf.AddrKey]bpf.PeerHost{}
		for _, h := range hosts {
			all[addrKey(h)] = bpf.PeerHost{}
		}
		if err := m.KeepPeers(all); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, want map[bpf.AddrKey]uint64) {
		t.Helper()
		got := map[bpf.AddrKey]uint64{}
		var key bpf.AddrKey
		var values []bpf.PeerCounters
		each := o.PeerStats.Iterate()
		for each.Next(&key, &values) {
			got[key] = values[0].Rx.Packets
		}
		if err := each.Err(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	put("198.18.0.9") // of an agent before this one
	keep("198.18.0.1", "198.18.0.2")
	check("the first call", map[bpf.AddrKey]uint64{addrKey("198.18.0.1"): 0, addrKey("198.18.0.2"): 0})
	put("198.18.0.1")
	keep("198.18.0.1", "198.18.0.3")
	check("one for another", map[bpf.AddrKey]uint64{addrKey("198.18.0.1"): 5, addrKey("198.18.0.3"): 0})
	put("198.18.0.9") // by somebody
	if err := o.PeerStats.Delete(addrKey("198.18.0.3")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Resync(State{}); err != nil {
		t.Fatal(err)
	}
	keep("198.18.0.1", "198.18.0.3")
	check("after a resync", map[bpf.AddrKey]uint64{addrKey("198.18.0.1"): 5, addrKey("198.18.0.3"): 0})
}
