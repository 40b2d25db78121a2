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
