package loader

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// late are the programs that only a host with an overlay needs. They are more than a third of what the verifier has to look at, so they are
// loaded when they are attached first; or with the others, where an agent before this one has attached them, so that all hooks change over
// within moments.
func (d *Datapath) late() map[string]**ebpf.Program {
	tc := &d.TC.DatapathPrograms
	return map[string]**ebpf.Program{
		bpf.DatapathProgFromOverlay: &tc.FromOverlay, bpf.DatapathProgToOverlay: &tc.ToOverlay,
		bpf.DatapathProgFromPeer: &tc.FromPeer, bpf.DatapathProgToPeer: &tc.ToPeer,
	}
}

// early takes out of the object what is loaded later: not what is asked for now, attached already, or kept.
func (d *Datapath) early(spec *ebpf.CollectionSpec) error {
	attached, err := d.Attached()
	if err != nil {
		return err
	}
	for name := range d.late() {
		used := d.settings.Overlay && (name == bpf.DatapathProgFromOverlay || name == bpf.DatapathProgToOverlay)
		for _, h := range attached {
			used = used || slices.Contains(h.Programs, name)
		}
		if !used && d.keptTC.programs[name] == nil {
			delete(spec.Programs, name)
		}
	}
	return nil
}

// need gives a program that is loaded by now, or loads it. It works on the maps of the others, and with what they are told (Events.Tell).
func (d *Datapath) need(name string) (*ebpf.Program, error) {
	d.lateMu.Lock()
	defer d.lateMu.Unlock()
	place := d.late()[name]
	if *place != nil {
		return *place, nil
	}
	spec, err := bpf.LoadDatapath()
	if err != nil {
		return nil, fmt.Errorf("load %s: read programs: %w", name, err)
	}
	like := &Datapath{features: d.features, mountinfo: d.mountinfo}
	if err := like.configure(specs{spec, spec}, d.settings); err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	shared := map[string]*ebpf.Map{}
	for of, m := range d.loose {
		shared[of] = m
	}
	for of, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(d.paths.Maps, of), nil)
		if err != nil {
			return nil, fmt.Errorf("load %s: open map %s: %w", name, of, explain(err))
		}
		defer pinned.Close()
		m.Pinning, m.MaxEntries, shared[of] = ebpf.PinNone, pinned.MaxEntries(), pinned
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, d.refused(err))
	}
	defer coll.Close()
	if err := d.keptTC.keep(coll.Programs, nil); err != nil {
		return nil, err
	}
	*place = coll.DetachProgram(name)
	return *place, nil
}
