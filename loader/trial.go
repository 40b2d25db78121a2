package loader

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Trial is a second copy of programs, to try packets on: nothing is sent, and nothing of the datapath changes. It reads the datapath's own
// configuration; what programs write (flows, pieces, counters, events) it has for itself, with the flow entries in it that it was given.
type Trial struct {
	coll   *ebpf.Collection
	events *Events
}

// trialRoom is how many entries a trial's own tables have room for, beside those that they begin with.
const trialRoom = 1024

// NewTrial loads the programs that are named. It may be called from any goroutine while the datapath is open.
func (d *Datapath) NewTrial(programs []string, entries []maps.FlowEntry) (_ *Trial, err error) {
	spec, err := bpf.LoadDatapath()
	if err != nil {
		return nil, fmt.Errorf("load a copy of the programs: %w", err)
	}
	// The copy is set as the original is.
	like := &Datapath{features: d.features, mountinfo: d.mountinfo}
	if err := like.configure(specs{spec, spec}, d.settings); err != nil {
		return nil, fmt.Errorf("load a copy of the programs: %w", err)
	}
	for name := range spec.Programs {
		if !slices.Contains(programs, name) {
			delete(spec.Programs, name)
		}
	}
	live := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range live {
			m.Close()
		}
	}()
	for name, m := range spec.Maps {
		pinned := m.Pinning == ebpf.PinByName
		m.Pinning = ebpf.PinNone
		switch {
		case !pinned:
		case name == bpf.DatapathMapFlows4 || name == bpf.DatapathMapFlows4New:
			m.MaxEntries = uint32(len(entries) + trialRoom)
		case writtenByPrograms(m):
		default:
			if live[name], err = ebpf.LoadPinnedMap(filepath.Join(d.paths.Maps, name), nil); err != nil {
				delete(live, name)
				return nil, fmt.Errorf("open map %s: %w", name, explain(err))
			}
			m.MaxEntries = live[name].MaxEntries()
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: live})
	if err != nil {
		return nil, fmt.Errorf("load a copy of the programs: %w", explain(err))
	}
	t := &Trial{coll: coll}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	for _, e := range entries {
		if err := t.table(e.New).Put(&e.Key, &e.Flow); err != nil {
			return nil, fmt.Errorf("copy flows: %w", err)
		}
	}
	t.events, err = openEvents(coll.Maps[bpf.DatapathMapEvents], coll.Variables[bpf.DatapathVarMonitor], coll.Variables[bpf.DatapathVarEventsLost])
	if err != nil {
		return nil, err
	}
	return t, t.events.Tell(true, true)
}

// writtenByPrograms tells whether programs write a map: the counters, which alone are per CPU, and what else they enter things into.
func writtenByPrograms(m *ebpf.MapSpec) bool {
	switch m.Type {
	case ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash:
		return true
	}
	return m.Name == bpf.DatapathMapNotes
}

func (t *Trial) table(fresh bool) *ebpf.Map {
	if fresh {
		return t.coll.Maps[bpf.DatapathMapFlows4New]
	}
	return t.coll.Maps[bpf.DatapathMapFlows4]
}

// Outcome is what a program did with a packet.
type Outcome struct {
	Frame []byte     // as the program left it
	Event *bpf.Event // what it told; nil where it had no say
}

// trialContext is the part of struct __sk_buff (include/uapi/linux/bpf.h) that the kernel takes from a caller: the device.
type trialContext struct {
	_       [40]byte
	Ifindex uint32
	_       [148]byte
}

// Run puts a frame through a program as if it were on that device's hook. The calling thread's network namespace is the device's.
func (t *Trial) Run(program string, ifindex uint32, frame []byte) (Outcome, error) {
	p := t.coll.Programs[program]
	if p == nil {
		return Outcome{}, fmt.Errorf("try program %s: it was not loaded", program)
	}
	// A program may make a frame longer.
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: &trialContext{Ifindex: ifindex}}
	if _, err := p.Run(&opts); err != nil {
		return Outcome{}, fmt.Errorf("try program %s: %w", program, err)
	}
	o := Outcome{Frame: opts.DataOut}
	event, err := t.events.next()
	if err != nil {
		return Outcome{}, err
	}
	o.Event = event
	return o, nil
}

// Flow gives the entry of a tuple, as it is after what was run.
func (t *Trial) Flow(key bpf.FlowKey) (maps.FlowEntry, bool, error) {
	e := maps.FlowEntry{Key: key}
	for _, e.New = range []bool{false, true} {
		err := t.table(e.New).Lookup(&key, &e.Flow)
		if err == nil {
			return e, true, nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return e, false, fmt.Errorf("read flows: %w", err)
		}
	}
	return e, false, nil
}

// Flows gives all entries, as they are after what was run.
func (t *Trial) Flows() ([]maps.FlowEntry, error) {
	var all []maps.FlowEntry
	for _, fresh := range []bool{false, true} {
		e := maps.FlowEntry{New: fresh}
		// Nobody writes them meanwhile.
		it := t.table(fresh).Iterate()
		for it.Next(&e.Key, &e.Flow) {
			all = append(all, e)
		}
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read flows: %w", err)
		}
	}
	return all, nil
}

// Close gives the copy up.
func (t *Trial) Close() {
	if t.events != nil {
		t.events.Close()
	}
	t.coll.Close()
}
