package maps

import (
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// FlowRow is a flow: its originator's entry, and the entry of the answers.
type FlowRow struct {
	Key   bpf.FlowKey // what the originator sends
	Flow  bpf.Flow    // what that becomes
	Reply *bpf.Flow   // nil where the entry was pushed out; holds only until the callback returns
	New   bool        // in the table of flows that are not answered, or not confirmed, yet
}

// flowBuffer is what one walk over the flow tables needs.
type flowBuffer = buffer[bpf.FlowKey, bpf.Flow]

// flowTable is one of the two.
type flowTable struct {
	name string
	m    *ebpf.Map
	new  bool
}

// flowTables are in the order in which they are walked: a flow moves from the first to the second, so that it may be met twice but is not
// missed.
func (m *Maps) flowTables() [2]flowTable {
	return [2]flowTable{
		{bpf.DatapathMapFlows4New, m.o.Flows4New, true},
		{bpf.DatapathMapFlows4, m.o.Flows4, false},
	}
}

// Flows calls fn with every flow, once each, until it returns false. The tables change meanwhile: a flow that lasts is not missed, one that
// begins or ends may or may not be there. A flow whose originator's entry was pushed out is made up from the other.
func (m *Maps) Flows(fn func(*FlowRow) bool) error {
	l := listing{m: m, fn: fn, b: newBuffer[bpf.FlowKey, bpf.Flow](), seen: make(map[uint64]struct{}), seed: maphash.MakeSeed()}
	for _, pass := range []func(*bpf.FlowKey, *bpf.Flow) error{l.originator, l.reply} {
		for _, t := range m.flowTables() {
			l.row.New = t.new
			err := scan(t.m, l.b, func(keys []bpf.FlowKey, flows []bpf.Flow) (bool, error) {
				for i := range keys {
					if err := pass(&keys[i], &flows[i]); err != nil || l.stop {
						return false, err
					}
				}
				return true, nil
			})
			if err != nil {
				return fmt.Errorf("read map %s: %w", t.name, err)
			}
			if l.stop {
				return nil
			}
		}
	}
	return nil
}

// listing is one listing of the flow tables. It walks over them twice: for the originators' entries, whose partners it looks up, and for the
// replies' whose flow was not met in the first walk.
type listing struct {
	m    *Maps
	fn   func(*FlowRow) bool
	b    *flowBuffer
	seen map[uint64]struct{} // hashes of the originators' keys: half the size of the keys, and no two alike in a table's lifetime
	seed maphash.Seed

	row   FlowRow
	other bpf.Flow
	stop  bool
}

// once tells whether the flow of an originator's key has not been met, and notes it.
func (l *listing) once(key *bpf.FlowKey) bool {
	h := maphash.Comparable(l.seed, *key)
	if _, met := l.seen[h]; met {
		return false
	}
	l.seen[h] = struct{}{}
	return true
}

func (l *listing) originator(key *bpf.FlowKey, f *bpf.Flow) error {
	if f.Flags&bpf.DatapathFlowFlagFLOW_REPLY != 0 || !l.once(key) {
		return nil
	}
	pkey := partnerKey(key, f)
	table, err := l.m.findFlow(&pkey, &l.other)
	if err != nil {
		return err
	}
	l.row.Key, l.row.Flow, l.row.Reply = *key, *f, nil
	if table != nil && isPartner(key, &l.other) {
		l.row.Reply = &l.other
	}
	l.stop = !l.fn(&l.row)
	return nil
}

func (l *listing) reply(key *bpf.FlowKey, f *bpf.Flow) error {
	if f.Flags&bpf.DatapathFlowFlagFLOW_REPLY == 0 {
		return nil
	}
	pkey := partnerKey(key, f)
	if !l.once(&pkey) {
		return nil
	}
	table, err := l.m.findFlow(&pkey, &l.other)
	if err != nil {
		return err
	}
	l.row.Key, l.row.Flow, l.row.Reply = pkey, l.other, f
	if table == nil || !isPartner(key, &l.other) {
		l.row.Flow = originator(key, f)
	}
	l.stop = !l.fn(&l.row)
	return nil
}

// originator gives what is known of the originator's entry from that of the answers.
func originator(key *bpf.FlowKey, f *bpf.Flow) bpf.Flow {
	return bpf.Flow{
		Saddr: key.Daddr, Daddr: key.Saddr, Sport: key.Dport, Dport: key.Sport,
		Verb: f.PartnerVerb, PartnerVerb: f.Verb, PartnerZone: key.Zone,
		Path: f.Path, Flags: f.Flags &^ bpf.DatapathFlowFlagFLOW_REPLY, Tcp: f.Tcp,
		Iif: f.Oif, Oif: f.Iif, Epoch: f.Epoch,
		SrcId: f.DstId, DstId: f.SrcId, SrcSlot: f.DstSlot, DstSlot: f.SrcSlot, BridgeSlot: f.BridgeSlot,
		Seen: f.Seen, Created: f.Created,
	}
}

// findFlow looks an entry up in both tables, as the programs do. Out: the table that has it; nil where none does.
func (m *Maps) findFlow(key *bpf.FlowKey, f *bpf.Flow) (*ebpf.Map, error) {
	for _, table := range []*ebpf.Map{m.o.Flows4, m.o.Flows4New} {
		err := table.Lookup(key, f)
		if err == nil {
			return table, nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

// partnerKey is the key of the other direction: the inverse of the tuple after translation, in the zone where it is seen.
func partnerKey(key *bpf.FlowKey, f *bpf.Flow) bpf.FlowKey {
	return bpf.FlowKey{Saddr: f.Daddr, Daddr: f.Saddr, Sport: f.Dport, Dport: f.Sport, Proto: key.Proto, Zone: f.PartnerZone}
}

// isPartner tells whether an entry that stands under a partner's key is the other direction of the flow under key, and not of another flow
// that has the tuple now.
func isPartner(key *bpf.FlowKey, partner *bpf.Flow) bool {
	return partner.Saddr == key.Daddr && partner.Daddr == key.Saddr && partner.Sport == key.Dport && partner.Dport == key.Sport
}
