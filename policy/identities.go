package policy

import (
	"net"
	"slices"

	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// Identity is what an endpoint or a bridge goes by in the maps.
type Identity struct {
	Index int    // ifindex of the veth's host end, or of the bridge
	ID    uint32 // of an endpoint, never given to another; 0 for a bridge
	Slot  uint16 // its place among the counters
}

// Turnover is what has come and what has gone since the last Settle. The counters in the slot of what has come are somebody's from before
// and are to be cleared ahead of the maps' change; the flows of what has gone are to be deleted after it.
type Turnover struct {
	Added       []Identity // endpoints
	Gone        []Identity
	AddedBridge []Identity
	GoneBridge  []Identity
	AddedPorts  []uint16 // slots
	GonePorts   []uint16
}

// Slots are how many endpoints and bridges the counters have room for.
type Slots struct {
	Endpoints int
	Bridges   int
	Published int // the first stands for none
}

// Identities hands out the numbers of endpoints and bridges, and remembers them from one compilation to the next. The same veth, of the
// same namespace and with the same MAC, keeps its number; a container that restarts has a new veth and so a new one. It is not safe for
// concurrent use.
type Identities struct {
	next      uint32
	live      map[uint32]bool // ids in use, and of gone endpoints that are not settled
	endpoints map[int]*held   // by ifindex
	bridges   map[int]*held
	slots     slotPool
	bslots    slotPool
	ports     portSlots
	turnover  Turnover
	rules     *rules.Numbers
	allowed   map[string]uint32 // numbers of the addresses that may use a published port
}

// held is an identity and whom it belongs to. What was read from the maps does not know its namespace, nor a bridge's name: the first that
// is seen on the ifindex is taken for the same.
type held struct {
	Identity
	name   string // of a bridge
	nsid   int
	mac    [6]byte
	hasMAC bool
	seeded bool
	seen   bool // in the compilation that runs
}

// NewIdentities starts from what the maps hold, so that an agent that comes back goes on with the numbers that flows and counters know.
func NewIdentities(have maps.State, size Slots) *Identities {
	ids := &Identities{
		next:      max(have.NextID, 1),
		live:      make(map[uint32]bool),
		endpoints: make(map[int]*held),
		bridges:   make(map[int]*held),
		slots:     slotPool{size: size.Endpoints},
		bslots:    slotPool{size: size.Bridges},
		ports:     newPortSlots(have, size.Published),
		rules:     rules.NewNumbers(),
		allowed:   allowedIn(have),
	}
	for index, v := range have.Veths {
		if v.Id == 0 || ids.live[v.Id] || !ids.slots.take(v.Slot) {
			continue
		}
		ids.live[v.Id] = true
		ids.endpoints[int(index)] = &held{Identity: Identity{Index: int(index), ID: v.Id, Slot: v.Slot}, seeded: true}
		if have.NextID == 0 {
			ids.next = max(ids.next, v.Id+1)
		}
	}
	for _, ep := range have.Endpoints {
		if h := ids.endpoints[int(ep.Ifindex)]; h != nil && h.ID == ep.Id {
			h.mac, h.hasMAC = ep.Mac, true
		}
	}
	for index, b := range have.Bridges {
		if ids.bslots.take(b.Slot) {
			ids.bridges[int(index)] = &held{Identity: Identity{Index: int(index), Slot: b.Slot}, seeded: true}
		}
	}
	return ids
}

// endpoint gives the identity of an endpoint, a new one where it has none. Out: false where there is no slot left.
func (ids *Identities) endpoint(ep *Endpoint) (Identity, bool) {
	mac := macArray(ep.MAC)
	h := ids.endpoints[ep.Index]
	if h != nil && h.seeded && (!h.hasMAC || h.mac == mac) {
		h.nsid, h.mac, h.seeded = ep.NSID, mac, false
	}
	if h != nil && (h.seeded || h.nsid != ep.NSID || h.mac != mac) {
		ids.dropEndpoint(h)
		h = nil
	}
	if h == nil {
		slot, ok := ids.slots.give()
		if !ok {
			return Identity{}, false
		}
		h = &held{Identity: Identity{Index: ep.Index, ID: ids.newID(), Slot: slot}, nsid: ep.NSID, mac: mac}
		ids.endpoints[ep.Index] = h
		ids.turnover.Added = append(ids.turnover.Added, h.Identity)
	}
	h.seen = true
	return h.Identity, true
}

// bridge gives the identity of a bridge. Out: false where there is no slot left.
func (ids *Identities) bridge(b *Bridge) (Identity, bool) {
	h := ids.bridges[b.Index]
	if h != nil && h.seeded {
		h.name, h.seeded = b.Name, false
	}
	// A bridge that is renamed counts on under its new name in a slot of its own.
	if h != nil && h.name != b.Name {
		ids.dropBridge(h)
		h = nil
	}
	if h == nil {
		slot, ok := ids.bslots.give()
		if !ok {
			return Identity{}, false
		}
		h = &held{Identity: Identity{Index: b.Index, Slot: slot}, name: b.Name}
		ids.bridges[b.Index] = h
		ids.turnover.AddedBridge = append(ids.turnover.AddedBridge, h.Identity)
	}
	h.seen = true
	return h.Identity, true
}

// begin opens a compilation, and end closes it: what was not asked for between the two has gone.
func (ids *Identities) begin() {
	for _, h := range ids.endpoints {
		h.seen = false
	}
	for _, h := range ids.bridges {
		h.seen = false
	}
	ids.ports.begin()
}

func (ids *Identities) end() Turnover {
	for _, h := range ids.endpoints {
		if !h.seen {
			ids.dropEndpoint(h)
		}
	}
	for _, h := range ids.bridges {
		if !h.seen {
			ids.dropBridge(h)
		}
	}
	ids.ports.end()
	t := Turnover{
		Added:       slices.Clone(ids.turnover.Added),
		Gone:        slices.Clone(ids.turnover.Gone),
		AddedBridge: slices.Clone(ids.turnover.AddedBridge),
		GoneBridge:  slices.Clone(ids.turnover.GoneBridge),
		AddedPorts:  slices.Clone(ids.ports.added),
		GonePorts:   slices.Clone(ids.ports.gone),
	}
	slices.SortFunc(t.Gone, func(a, b Identity) int { return int(a.Slot) - int(b.Slot) })
	slices.SortFunc(t.GoneBridge, func(a, b Identity) int { return int(a.Slot) - int(b.Slot) })
	return t
}

func (ids *Identities) dropEndpoint(h *held) {
	delete(ids.endpoints, h.Index)
	ids.turnover.Added = without(ids.turnover.Added, h.Identity)
	ids.turnover.Gone = append(ids.turnover.Gone, h.Identity)
}

func (ids *Identities) dropBridge(h *held) {
	delete(ids.bridges, h.Index)
	ids.turnover.AddedBridge = without(ids.turnover.AddedBridge, h.Identity)
	ids.turnover.GoneBridge = append(ids.turnover.GoneBridge, h.Identity)
}

// Settle says that a result has been put to work: the slots of what had come are cleared, the maps written, and the flows of what had gone
// deleted. Only then is a slot given to another. What is not settled is reported again by the next compilation.
func (ids *Identities) Settle(t Turnover) {
	ids.turnover.Added = without(ids.turnover.Added, t.Added...)
	ids.turnover.AddedBridge = without(ids.turnover.AddedBridge, t.AddedBridge...)
	for _, gone := range t.Gone {
		if slices.Contains(ids.turnover.Gone, gone) {
			ids.slots.free(gone.Slot)
			delete(ids.live, gone.ID)
		}
	}
	ids.turnover.Gone = without(ids.turnover.Gone, t.Gone...)
	for _, gone := range t.GoneBridge {
		if slices.Contains(ids.turnover.GoneBridge, gone) {
			ids.bslots.free(gone.Slot)
		}
	}
	ids.turnover.GoneBridge = without(ids.turnover.GoneBridge, t.GoneBridge...)
	ids.ports.settle(t.AddedPorts, t.GonePorts)
}

// newID gives the next id. It would take four thousand million endpoints to come round to one that is in use.
func (ids *Identities) newID() uint32 {
	for {
		id := ids.next
		ids.next++
		if id != 0 && !ids.live[id] {
			ids.live[id] = true
			return id
		}
	}
}

func without(list []Identity, gone ...Identity) []Identity {
	if len(list) == 0 || len(gone) == 0 {
		return list
	}
	out := make(map[Identity]bool, len(gone))
	for _, g := range gone {
		out[g] = true
	}
	return slices.DeleteFunc(list, func(i Identity) bool { return out[i] })
}

// slotPool gives the lowest free slot, so that the counters in use stand close together.
type slotPool struct {
	size int
	used []bool
	low  int // no slot below is free
}

func (p *slotPool) take(slot uint16) bool {
	if int(slot) >= p.size {
		return false
	}
	if n := int(slot) + 1 - len(p.used); n > 0 {
		p.used = append(p.used, make([]bool, n)...)
	}
	if p.used[slot] {
		return false
	}
	p.used[slot] = true
	return true
}

func (p *slotPool) give() (uint16, bool) {
	for p.low < len(p.used) && p.used[p.low] {
		p.low++
	}
	if p.low > 65535 || !p.take(uint16(p.low)) {
		return 0, false
	}
	return uint16(p.low), true
}

func (p *slotPool) free(slot uint16) {
	p.used[slot] = false
	p.low = min(p.low, int(slot))
}

// macArray gives a MAC as the maps hold it; zeros for one that is not six bytes long.
func macArray(mac net.HardwareAddr) (a [6]byte) {
	if len(mac) == len(a) {
		copy(a[:], mac)
	}
	return a
}
