package loader

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// The programs of an object stay pinned, beside the maps that they work on, and so do the maps that are pinned nowhere else. An agent that is
// started anew takes them as they are, where it would have loaded the same: to look at every way through them once more takes the kernel a
// second or two, and every hook would change over for nothing.

// kept is what stays of one object.
type kept struct {
	paths    Paths
	object   string // its name, before the stamp
	digest   []byte // of its programs and constants, as they are to be loaded
	pinned   []string
	dir      string                   // where it stands; empty: not known before the maps are there
	programs map[string]*ebpf.Program // that were there already
	loose    map[string]*ebpf.Map     // the maps that were there already: all that the object needs, or none
	made     []string                 // pins that came since
}

// findKept opens what is kept of an object that is to be loaded. Everything in the specification is as it will be loaded, and no map is missing
// among those that are pinned by name, or nothing is found.
func findKept(p Paths, object string, spec *ebpf.CollectionSpec) (*kept, error) {
	k := &kept{paths: p, object: object, programs: map[string]*ebpf.Program{}, loose: map[string]*ebpf.Map{}}
	k.digest, k.pinned = digestOf(spec), pinnedNames(spec)
	err := k.find()
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the programs of before: %w", err)
	}
	for name := range looseMaps(spec) {
		m, err := ebpf.LoadPinnedMap(filepath.Join(k.dir, mapPin(name)), nil)
		if errors.Is(err, fs.ErrNotExist) {
			k.close()
			return k, nil
		}
		if err != nil {
			k.close()
			return nil, fmt.Errorf("open kept map %s: %w", name, explain(err))
		}
		k.loose[name] = m
	}
	for name := range spec.Programs {
		p, err := ebpf.LoadPinnedProgram(filepath.Join(k.dir, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			k.close()
			return nil, fmt.Errorf("open kept program %s: %w", name, explain(err))
		}
		k.programs[name] = p
	}
	return k, nil
}

// find finds out where the object stands: its name there says what it is made of, and which maps it works on. fs.ErrNotExist: a map is missing.
func (k *kept) find() error {
	if k.dir != "" {
		return nil
	}
	h := sha256.New()
	h.Write(k.digest)
	for _, name := range k.pinned {
		m, err := ebpf.LoadPinnedMap(filepath.Join(k.paths.Maps, name), nil)
		if err != nil {
			return fmt.Errorf("open map %s: %w", name, explain(err))
		}
		info, err := m.Info()
		m.Close()
		if err != nil {
			return fmt.Errorf("inspect map %s: %w", name, err)
		}
		id, ok := info.ID()
		if !ok {
			return fmt.Errorf("inspect map %s: the kernel does not tell which it is", name)
		}
		fmt.Fprintln(h, name, id)
	}
	k.dir = filepath.Join(k.paths.Programs, k.object+"_"+hex.EncodeToString(h.Sum(nil)[:8]))
	return nil
}

// keep pins programs and loose maps of the object that are not pinned yet.
func (k *kept) keep(programs map[string]*ebpf.Program, loose map[string]*ebpf.Map) error {
	if err := k.find(); err != nil {
		return fmt.Errorf("keep programs: %w", err)
	}
	dirs, err := makeDirs(k.dir)
	for _, dir := range slices.Backward(dirs) {
		k.made = append(k.made, dir)
	}
	if err != nil {
		return fmt.Errorf("keep programs: %w", err)
	}
	pins := map[string]interface{ Pin(string) error }{}
	for name, m := range loose {
		pins[mapPin(name)] = m
	}
	for name, p := range programs {
		if p != nil {
			pins[name] = p
		}
	}
	for name, of := range pins {
		pin := filepath.Join(k.dir, name)
		if exists(pin) {
			continue
		}
		if err := of.Pin(pin); err != nil {
			return fmt.Errorf("keep %s: %w", name, explain(err))
		}
		k.made = append(k.made, pin)
	}
	return nil
}

// undo takes away what keep has made.
func (k *kept) undo() {
	for _, pin := range slices.Backward(k.made) {
		_ = os.Remove(pin) // a directory stays while something is in it
	}
	k.made = nil
}

// dropOthers gives up what was kept of the object as it was before.
func (k *kept) dropOthers() error {
	others, err := filepath.Glob(filepath.Join(k.paths.Programs, k.object+"_*"))
	if err != nil {
		return err
	}
	for _, dir := range others {
		if dir == k.dir {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("give up the programs of before: %w", err)
		}
	}
	return nil
}

// close gives up this process's hold on what was found.
func (k *kept) close() {
	for _, m := range k.loose {
		m.Close()
	}
	for _, p := range k.programs {
		p.Close()
	}
	clear(k.loose)
	clear(k.programs)
}

// mapPin is the file name of a loose map: bpffs takes no dots.
func mapPin(name string) string { return "map_" + strings.TrimPrefix(name, ".") }

// looseMaps are the maps of an object that are not pinned by name: its variables and constants, and what need not outlive its programs.
func looseMaps(spec *ebpf.CollectionSpec) map[string]*ebpf.MapSpec {
	loose := map[string]*ebpf.MapSpec{}
	for name, m := range spec.Maps {
		if m.Pinning == ebpf.PinNone {
			loose[name] = m
		}
	}
	return loose
}

func pinnedNames(spec *ebpf.CollectionSpec) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		if spec.Maps[name].Pinning == ebpf.PinByName {
			names = append(names, name)
		}
	}
	return names
}

// digestOf sums up all that decides what the kernel makes of an object, but for the pinned maps: instructions, constants, and the loose maps.
func digestOf(spec *ebpf.CollectionSpec) []byte {
	h := sha256.New()
	loose := looseMaps(spec)
	for _, name := range slices.Sorted(maps.Keys(loose)) {
		m := loose[name]
		fmt.Fprintln(h, "map", name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		v := spec.Variables[name]
		fmt.Fprintln(h, "variable", name, v.SectionName, v.Offset, v.Value)
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		p := spec.Programs[name]
		fmt.Fprintln(h, "program", name, p.Type, p.AttachType, p.Flags, p.License)
		text = text[:0]
		for i := range p.Instructions {
			ins := &p.Instructions[i]
			text = binary.LittleEndian.AppendUint32(text, uint32(ins.OpCode))
			text = append(text, byte(ins.Dst), byte(ins.Src))
			text = binary.LittleEndian.AppendUint16(text, uint16(ins.Offset))
			text = binary.LittleEndian.AppendUint64(text, uint64(ins.Constant))
			text = append(text, ins.Reference()...)
			text = append(text, '\n')
			text = append(text, ins.Symbol()...)
			text = append(text, '\n')
			if r := btf.CORERelocationMetadata(ins); r != nil {
				text = append(text, r.String()...)
				text = append(text, '\n')
			}
		}
		h.Write(text)
	}
	return h.Sum(nil)
}
