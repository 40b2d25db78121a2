package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// adoptPins makes the specification agree with the maps that are pinned, and makes the directories. A pinned map keeps its size (resize
// has put those aside that are not to); one of another shape is not taken. The function that it returns takes away what came since.
func (d *Datapath) adoptPins(sp specs) (_ func(), err error) {
	var fresh, dirs []string
	if pin := filepath.Join(d.paths.Maps, shapePin); !exists(pin) {
		fresh = append(fresh, pin)
	}
	undo := func() {
		for _, pin := range fresh {
			_ = os.Remove(pin)
		}
		for _, dir := range dirs {
			_ = os.Remove(dir) // it stays while something is in it
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	for _, dir := range []string{d.paths.Maps, d.paths.Programs, d.paths.Links} {
		made, err := makeDirs(dir)
		dirs = append(made, dirs...) // the deepest first
		if err != nil {
			return nil, err
		}
	}
	for name, spec := range sp.tc.Maps {
		if spec.Pinning != ebpf.PinByName {
			continue
		}
		pin := filepath.Join(d.paths.Maps, name)
		pinned, err := ebpf.LoadPinnedMap(pin, nil)
		if errors.Is(err, fs.ErrNotExist) {
			fresh = append(fresh, pin)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open pinned map %s: %w", name, explain(err))
		}
		size := pinned.MaxEntries()
		if size != spec.MaxEntries {
			d.notes = append(d.notes, fmt.Sprintf("map %s keeps its %d entries, not %d as set, until the agent's next start", name, size, spec.MaxEntries))
		}
		for _, s := range []*ebpf.CollectionSpec{sp.tc, sp.sock} {
			if m := s.Maps[name]; m != nil {
				m.MaxEntries = size
				err = errors.Join(err, m.Compatible(pinned))
			}
		}
		pinned.Close()
		if err != nil {
			return nil, fmt.Errorf("pinned map %s is of another version: run `detach --all` first: %w", name, err)
		}
	}
	return undo, nil
}

// makeDirs is os.MkdirAll that tells which directories it made, the deepest first.
func makeDirs(dir string) (made []string, err error) {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return nil, fmt.Errorf("make directory %s: not a directory", dir)
		}
		return nil, nil
	}
	made, err = makeDirs(filepath.Dir(dir))
	if err != nil {
		return made, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return made, fmt.Errorf("make directory: %w", err)
	}
	return append([]string{dir}, made...), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
