package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Adoption is a flow that somebody else has begun, ready to be carried here: the originator's entry and that of the answers.
type Adoption struct {
	Key, ReplyKey bpf.FlowKey
	Flow, Reply   bpf.Flow
}

// Adopt enters a flow as one that has been answered, or not. Out: false where one of its tuples belongs to a flow already; then nothing is
// changed. The answers' entry comes first, as it reserves the tuple on the wire.
func (m *Maps) Adopt(a *Adoption) (bool, error) {
	table := m.o.Flows4New
	if a.Flow.Flags&bpf.DatapathFlowFlagFLOW_ANSWERED != 0 {
		table = m.o.Flows4
	}
	var there bpf.Flow
	for _, key := range []*bpf.FlowKey{&a.Key, &a.ReplyKey} {
		if found, err := m.findFlow(key, &there); err != nil || found != nil {
			return false, err
		}
	}
	for i, e := range []struct {
		key  *bpf.FlowKey
		flow *bpf.Flow
	}{{&a.ReplyKey, &a.Reply}, {&a.Key, &a.Flow}} {
		err := table.Update(e.key, e.flow, ebpf.UpdateNoExist)
		if err == nil {
			continue
		}
		if i == 1 {
			if ferr := forget(table, &a.ReplyKey); ferr != nil {
				return false, ferr
			}
		}
		if errors.Is(err, ebpf.ErrKeyExist) {
			return false, nil
		}
		return false, fmt.Errorf("adopt a flow: %w", err)
	}
	return true, nil
}

// BeginNothing takes the bridges out of the map, and leaves the configuration's epoch: flows that are known go on, and no more begin here. The
// next Sync puts the bridges back.
func (m *Maps) BeginNothing(bridges map[uint32]bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.have = nil
	for index := range bridges {
		if err := m.o.Bridges4.Delete(index); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take bridge %d out: %w", index, err)
		}
	}
	return nil
}
