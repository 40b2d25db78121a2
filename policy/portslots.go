package policy

import (
	"slices"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// portSlots hands out the places of published ports among the counters: a range has one, and slot 0 stands for none. A port that goes on
// leading to the same endpoint keeps its slot, an agent's restart included.
type portSlots struct {
	pool  slotPool
	held  map[portID]*portSlot
	known map[bpf.PublishKey]bpf.Publish // as an agent before this one left them; nil once looked through
	kept  map[uint16]bool                // slots of known that nobody has asked for yet
	added []uint16
	gone  []uint16
}

// portID is a published port of an endpoint.
type portID struct {
	spec PublishSpec
	id   uint32
}

type portSlot struct {
	slot uint16
	seen bool // in the compilation that runs
}

func newPortSlots(have maps.State, size int) portSlots {
	p := portSlots{pool: slotPool{size: size}, held: make(map[portID]*portSlot), known: have.Publish, kept: make(map[uint16]bool)}
	if size > 0 {
		p.pool.take(0)
	}
	for _, v := range have.Publish {
		if p.pool.take(v.Slot) {
			p.kept[v.Slot] = true
		}
	}
	return p
}

// slot gives the slot of a published port; 0 where there is none left.
func (p *portSlots) slot(spec PublishSpec, id uint32) uint16 {
	key := portID{spec, id}
	h := p.held[key]
	if h == nil {
		h = &portSlot{}
		old, ok := p.known[publishKey(spec.HostIP, spec.HostPort, spec.Proto)]
		if ok && old.Id == id && p.kept[old.Slot] {
			h.slot = old.Slot
			delete(p.kept, old.Slot)
		} else if n, ok := p.pool.give(); ok {
			h.slot = n
			p.added = append(p.added, n)
		} else {
			return 0
		}
		p.held[key] = h
	}
	h.seen = true
	return h.slot
}

// begin opens a compilation, and end closes it: what was not asked for between the two has gone.
func (p *portSlots) begin() {
	for _, h := range p.held {
		h.seen = false
	}
}

func (p *portSlots) end() {
	for n := range p.kept {
		p.gone = append(p.gone, n)
	}
	p.known, p.kept = nil, nil
	for key, h := range p.held {
		if h.seen {
			continue
		}
		delete(p.held, key)
		p.added = slices.DeleteFunc(p.added, func(n uint16) bool { return n == h.slot })
		p.gone = append(p.gone, h.slot)
	}
	slices.Sort(p.gone)
}

// settle says that new slots have been cleared and the maps written: only then is a slot that was given up given to another.
func (p *portSlots) settle(added, gone []uint16) {
	p.added = slices.DeleteFunc(p.added, func(n uint16) bool { return slices.Contains(added, n) })
	for _, n := range gone {
		if i := slices.Index(p.gone, n); i >= 0 {
			p.gone = slices.Delete(p.gone, i, i+1)
			p.pool.free(n)
		}
	}
}
