package maps

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// perCPU makes one value for each CPU.
func perCPU[V any](t testing.TB, value func(cpu uint64) V) (values []V, cpus uint64) {
	t.Helper()
	n, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	for cpu := range uint64(n) {
		values = append(values, value(cpu))
	}
	return values, uint64(n)
}

func TestCounters(t *testing.T) {
	m, o := newMaps(t, nil)
	one, n := perCPU(t, func(cpu uint64) bpf.Counter { return bpf.Counter{Packets: 1 + cpu, Bytes: 100} })
	sum := bpf.Counter{Packets: n * (n + 1) / 2, Bytes: 100 * n}
	eps, _ := perCPU(t, func(cpu uint64) bpf.EndpointCounters {
		return bpf.EndpointCounters{Rx: bpf.Counter{Packets: 1 + cpu, Bytes: 100}, Tx: bpf.Counter{Packets: 1, Bytes: 10}, RxDropped: 2, TxDropped: 3}
	})
	epSum := bpf.EndpointCounters{Rx: sum, Tx: bpf.Counter{Packets: n, Bytes: 10 * n}, RxDropped: 2 * n, TxDropped: 3 * n}

	last := m.EndpointSlots() - 1
	for _, slot := range []uint32{6, 7, 8, uint32(last)} {
		if err := o.EndpointStats.Put(slot, eps); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint32(3 * bpf.DatapathFlowPathPATH_MAX) {
		if err := o.PathStats.Put(i, one); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.DropStats.Put(uint32(bpf.DatapathDropReasonDROP_SPOOFED), one); err != nil {
		t.Fatal(err)
	}
	if err := o.PassStats.Put(uint32(bpf.DatapathPassReasonPASS_ROUTE), one); err != nil {
		t.Fatal(err)
	}

	if err := m.ClearEndpointSlot(7); err != nil {
		t.Fatal(err)
	}
	if err := m.ClearBridgeSlot(1); err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[int]bpf.EndpointCounters{5: {}, 6: epSum, 7: {}, 8: epSum, last: epSum} {
		if got, err := m.EndpointStats(uint16(slot)); err != nil || got != want {
			t.Errorf("endpoint slot %d: %+v, %v; want %+v", slot, got, err, want)
		}
	}
	for slot, want := range []bpf.Counter{sum, {}, sum, {}} {
		got, err := m.PathStats(uint16(slot))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]bpf.Counter{want, want, want, want, want}, got); diff != "" {
			t.Errorf("bridge slot %d (-want +got)\n%s", slot, diff)
		}
	}
	drops, err := m.DropStats()
	if err != nil || len(drops) != int(bpf.DatapathDropReasonDROP_MAX) || drops[bpf.DatapathDropReasonDROP_SPOOFED] != sum ||
		drops[bpf.DatapathDropReasonDROP_ICC] != (bpf.Counter{}) {
		t.Errorf("drops: %+v, %v", drops, err)
	}
	passes, err := m.PassStats()
	if err != nil || len(passes) != int(bpf.DatapathPassReasonPASS_MAX) || passes[bpf.DatapathPassReasonPASS_ROUTE] != sum {
		t.Errorf("passes: %+v, %v", passes, err)
	}
	if m.BridgeSlots() != 1024 || last != 16383 {
		t.Errorf("%d bridge slots, %d endpoint slots", m.BridgeSlots(), last+1)
	}
	if _, err := m.EndpointStats(uint16(last + 1)); err == nil {
		t.Error("a slot beyond the map was read")
	}
}
