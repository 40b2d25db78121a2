package maps

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// DeleteFlows deletes every flow of which an entry matches, both of its entries, and tells how many flows that were. It is shown entries of
// either direction.
func (m *Maps) DeleteFlows(match func(*bpf.FlowKey, *bpf.Flow) bool) (int, error) {
	deleted, err := m.deleteFlows(match)
	sum := 0
	for _, n := range deleted {
		sum += n
	}
	return sum, err
}

// deleteFlows is DeleteFlows that tells them apart by protocol (IPPROTO_*).
func (m *Maps) deleteFlows(match func(*bpf.FlowKey, *bpf.Flow) bool) (map[uint8]int, error) {
	deleted := make(map[uint8]int)
	always := func(*bpf.FlowKey, *bpf.Flow, bool) bool { return true }
	err := m.eachEntry(func(t flowTable, keys []bpf.FlowKey, flows []bpf.Flow) error {
		for i := range keys {
			if !match(&keys[i], &flows[i]) {
				continue
			}
			fate, err := m.deleteFlow(keys[i], match, always)
			if err != nil {
				return err
			}
			if fate == flowDeleted {
				deleted[keys[i].Proto]++
			}
		}
		return nil
	})
	return deleted, err
}

// Flow gives the entry under a key. Out: false where there is none.
func (m *Maps) Flow(key bpf.FlowKey) (f bpf.Flow, ok bool, err error) {
	table, err := m.findFlow(&key, &f)
	return f, table != nil && err == nil, err
}

// DeleteFlow deletes the flow whose entry under a key matches, both of its entries. Out: false where there is none.
func (m *Maps) DeleteFlow(key bpf.FlowKey, match func(*bpf.Flow) bool) (bool, error) {
	fate, err := m.deleteFlow(key, func(_ *bpf.FlowKey, f *bpf.Flow) bool { return match(f) },
		func(*bpf.FlowKey, *bpf.Flow, bool) bool { return true })
	return fate == flowDeleted, err
}

// DeleteFlowsOf deletes the flows of endpoints, given by id, and tells how many of each protocol (IPPROTO_*) that were.
func (m *Maps) DeleteFlowsOf(ids map[uint32]bool) (map[uint8]int, error) {
	return m.deleteFlows(func(_ *bpf.FlowKey, f *bpf.Flow) bool { return ids[f.SrcId] || ids[f.DstId] })
}

// Sweep is what a walk of Expire over the flow tables has done and seen.
type Sweep struct {
	Deleted int         // flows
	Causes  []FlowCount // of which, by the state whose time was over
	Flows   []FlowCount // those that are left
	Fill    []Fill      // of the two tables, in entries, before anything was deleted
}

// FlowCount is a number of flows of a protocol in a state.
type FlowCount struct {
	Proto uint8 // IPPROTO_*
	State string
	Count int
}

// Expire deletes the flows that have been idle for longer than their timeouts, and counts the rest. now is in ticks, and so are the timeouts
// in cfg, of which 0 is one that nobody has set: it never comes. A flow that is used while Expire looks at it stays.
func (m *Maps) Expire(now uint32, cfg bpf.Config) (Sweep, error) {
	var s Sweep
	type class struct {
		proto uint8
		state string
	}
	counts, deleted := make(map[class]int), make(map[class]int)
	entries := make(map[string]int)
	anything := func(*bpf.FlowKey, *bpf.Flow) bool { return true }
	idle := func(key *bpf.FlowKey, f *bpf.Flow, fresh bool) bool {
		_, timeout := FlowState(key.Proto, f.Flags, f.Tcp, fresh, &cfg)
		return timeout != 0 && TicksSince(now, f.Seen) > timeout
	}
	err := m.eachEntry(func(t flowTable, keys []bpf.FlowKey, flows []bpf.Flow) error {
		entries[t.name] += len(keys)
		for i := range keys {
			key, f := &keys[i], &flows[i]
			if idle(key, f, t.new) {
				fate, err := m.deleteFlow(*key, anything, idle)
				if err != nil {
					return err
				}
				if fate == flowDeleted {
					s.Deleted++
					state, _ := FlowState(key.Proto, f.Flags, f.Tcp, t.new, &cfg)
					deleted[class{key.Proto, state}]++
				}
				if fate != flowKept {
					continue
				}
			}
			if f.Flags&bpf.DatapathFlowFlagFLOW_REPLY == 0 {
				state, _ := FlowState(key.Proto, f.Flags, f.Tcp, t.new, &cfg)
				counts[class{key.Proto, state}]++
			}
		}
		return nil
	})
	for c, n := range counts {
		s.Flows = append(s.Flows, FlowCount{c.proto, c.state, n})
	}
	for c, n := range deleted {
		s.Causes = append(s.Causes, FlowCount{c.proto, c.state, n})
	}
	order := func(a, b FlowCount) int { return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.State, b.State)) }
	slices.SortFunc(s.Flows, order)
	slices.SortFunc(s.Causes, order)
	for _, t := range m.flowTables() {
		s.Fill = append(s.Fill, Fill{t.name, entries[t.name], int(t.m.MaxEntries())})
	}
	return s, err
}

// eachEntry walks over both tables.
func (m *Maps) eachEntry(fn func(t flowTable, keys []bpf.FlowKey, flows []bpf.Flow) error) error {
	b := newBuffer[bpf.FlowKey, bpf.Flow]()
	for _, t := range m.flowTables() {
		err := scan(t.m, b, func(keys []bpf.FlowKey, flows []bpf.Flow) (bool, error) { return true, fn(t, keys, flows) })
		if err != nil {
			return fmt.Errorf("walk over map %s: %w", t.name, err)
		}
	}
	return nil
}

// fate is what deleteFlow found or did.
type fate int

const (
	flowKept    fate = iota // it is in use, or another flow than was meant
	flowDeleted             // both entries, or the one that it had, or the originator's where the other was used meanwhile
	flowGone                // it was not there any more
)

// deleteFlow deletes a flow by either of its keys, if its entry still matches and both are idle when they are looked at for the last time;
// fresh says that an entry is in the table of new flows. The reply's entry goes last, because it keeps the flow's external port from being
// taken, and stays if it has been used in the meantime: it makes the other anew.
func (m *Maps) deleteFlow(key bpf.FlowKey, match func(*bpf.FlowKey, *bpf.Flow) bool,
	idle func(key *bpf.FlowKey, f *bpf.Flow, fresh bool) bool) (fate, error) {
	var f bpf.Flow
	table, err := m.findFlow(&key, &f)
	if err != nil || table == nil {
		return flowGone, err
	}
	if !match(&key, &f) || !idle(&key, &f, table == m.o.Flows4New) {
		return flowKept, nil
	}
	reply := f.Flags&bpf.DatapathFlowFlagFLOW_REPLY != 0
	pkey := partnerKey(&key, &f)
	ptable, err := m.findFlow(&pkey, &f)
	if err != nil {
		return flowKept, err
	}
	if ptable == nil || !isPartner(&key, &f) {
		return flowDeleted, forget(table, &key)
	}
	if !idle(&pkey, &f, ptable == m.o.Flows4New) {
		return flowKept, nil
	}
	first, second := key, pkey
	if reply {
		first, second, table = pkey, key, ptable
	}
	if err := forget(table, &first); err != nil {
		return flowKept, err
	}
	table, err = m.findFlow(&second, &f)
	if err != nil || table == nil || !isPartner(&first, &f) || !idle(&second, &f, table == m.o.Flows4New) {
		return flowDeleted, err
	}
	return flowDeleted, forget(table, &second)
}

// forget deletes an entry. One that is gone already is no error.
func forget(table *ebpf.Map, key *bpf.FlowKey) error {
	if err := table.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
