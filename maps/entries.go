package maps

import (
	"fmt"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// FlowEntries calls fn with every entry of the flow tables, of originators and of answers, without looking at what belongs together. An
// entry that moves from one table to the other meanwhile may be met twice. The pointers hold until fn returns.
func (m *Maps) FlowEntries(fn func(key *bpf.FlowKey, f *bpf.Flow)) error {
	b := newBuffer[bpf.FlowKey, bpf.Flow]()
	for _, t := range m.flowTables() {
		err := scan(t.m, b, func(keys []bpf.FlowKey, flows []bpf.Flow) (bool, error) {
			for i := range keys {
				fn(&keys[i], &flows[i])
			}
			return true, nil
		})
		if err != nil {
			return fmt.Errorf("read map %s: %w", t.name, err)
		}
	}
	return nil
}

// FlowEntry is one entry of the flow tables.
type FlowEntry struct {
	Key  bpf.FlowKey
	Flow bpf.Flow
	New  bool // in the table of flows that are not answered, or not confirmed, yet
}

// FlowsWith gives the entries whose tuple, before or after translation, has one of the addresses (as bpf.Addr gives them); most is how many at
// the most.
func (m *Maps) FlowsWith(addrs map[uint32]bool, most int) ([]FlowEntry, error) {
	var all []FlowEntry
	b := newBuffer[bpf.FlowKey, bpf.Flow]()
	for _, t := range m.flowTables() {
		err := scan(t.m, b, func(keys []bpf.FlowKey, flows []bpf.Flow) (bool, error) {
			for i := range keys {
				k, f := &keys[i], &flows[i]
				if addrs[k.Saddr] || addrs[k.Daddr] || addrs[f.Saddr] || addrs[f.Daddr] {
					all = append(all, FlowEntry{Key: *k, Flow: *f, New: t.new})
				}
			}
			return len(all) < most, nil
		})
		if err != nil {
			return nil, fmt.Errorf("read map %s: %w", t.name, err)
		}
	}
	return all, nil
}
