package maps

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// PathStats gives what was delivered of the bridge in a slot, indexed by bpf.FlowPath.
func (m *Maps) PathStats(slot uint16) ([]bpf.Counter, error) {
	paths := uint32(bpf.DatapathFlowPathPATH_MAX)
	return sumCounters(m.o.PathStats, bpf.DatapathMapPathStats, uint32(slot)*paths, paths)
}

// DropStats gives what was dropped, indexed by bpf.DropReason.
func (m *Maps) DropStats() ([]bpf.Counter, error) {
	return sumCounters(m.o.DropStats, bpf.DatapathMapDropStats, 0, m.o.DropStats.MaxEntries())
}

// PassStats gives what was left to the host's stack, indexed by bpf.PassReason.
func (m *Maps) PassStats() ([]bpf.Counter, error) {
	return sumCounters(m.o.PassStats, bpf.DatapathMapPassStats, 0, m.o.PassStats.MaxEntries())
}

// EndpointStats gives the counters of the endpoint in a slot.
func (m *Maps) EndpointStats(slot uint16) (bpf.EndpointCounters, error) {
	var sum bpf.EndpointCounters
	var cpus []bpf.EndpointCounters
	if err := m.o.EndpointStats.Lookup(uint32(slot), &cpus); err != nil {
		return sum, fmt.Errorf("read map %s slot %d: %w", bpf.DatapathMapEndpointStats, slot, err)
	}
	for i := range cpus {
		add(&sum.Rx, cpus[i].Rx)
		add(&sum.Tx, cpus[i].Tx)
		sum.RxDropped += cpus[i].RxDropped
		sum.TxDropped += cpus[i].TxDropped
	}
	return sum, nil
}

// ClearEndpointSlot sets the counters of an endpoint to zero, before another counts there.
func (m *Maps) ClearEndpointSlot(slot uint16) error {
	return clearSlots[bpf.EndpointCounters](m.o.EndpointStats, bpf.DatapathMapEndpointStats, uint32(slot), 1)
}

// ClearBridgeSlot sets the counters of a bridge to zero, before another counts there.
func (m *Maps) ClearBridgeSlot(slot uint16) error {
	paths := uint32(bpf.DatapathFlowPathPATH_MAX)
	return clearSlots[bpf.Counter](m.o.PathStats, bpf.DatapathMapPathStats, uint32(slot)*paths, paths)
}

// sumCounters adds each of n entries up over the CPUs.
func sumCounters(m *ebpf.Map, name string, first, n uint32) ([]bpf.Counter, error) {
	sums := make([]bpf.Counter, n)
	var cpus []bpf.Counter
	for i := range sums {
		if err := m.Lookup(first+uint32(i), &cpus); err != nil {
			return nil, fmt.Errorf("read map %s entry %d: %w", name, first+uint32(i), err)
		}
		for _, c := range cpus {
			add(&sums[i], c)
		}
	}
	return sums, nil
}

func add(sum *bpf.Counter, c bpf.Counter) {
	sum.Packets += c.Packets
	sum.Bytes += c.Bytes
}

func clearSlots[V any](m *ebpf.Map, name string, first, n uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("clear map %s: %w", name, err)
	}
	zeros := make([]V, cpus)
	for i := first; i < first+n; i++ {
		if err := m.Put(i, zeros); err != nil {
			return fmt.Errorf("clear map %s entry %d: %w", name, i, err)
		}
	}
	return nil
}
