package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// An instance's maps stand in a directory of their layout. Where a version of the project finds those of another one, newer or older, it takes
// their entries over: field by field, by name, as far as both know them. This happens twice. Load copies everything, so that the new programs
// find what the old ones knew; once no old program is attached any more, Settle copies the flows that came to be in between, and gives the old
// maps up. An agent that dies in between leaves both, and the next one goes on. Maps of our own layout that are to have another size go the same
// way (resize.go).

// otherLayouts lists the directories of other layouts' maps.
func (d *Datapath) otherLayouts() ([]string, error) {
	entries, err := os.ReadDir(d.paths.BPFFS)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	current := filepath.Base(filepath.Dir(d.paths.Maps))
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "v") && e.Name() != current {
			dirs = append(dirs, filepath.Join(d.paths.BPFFS, e.Name()))
		}
	}
	return dirs, nil
}

// migrate takes over what is in the maps of other layouts, and leaves word of what is in ours. That comes last: as long as it is missing, ours
// are not complete.
func (d *Datapath) migrate(spec *ebpf.CollectionSpec) error {
	own, err := shapeOf(spec)
	if err != nil {
		return err
	}
	d.shape = own
	pinned, err := pinnedShape(d.paths.Maps)
	first := errors.Is(err, errNoShape)
	if err != nil && !first {
		return err
	}
	if name, differs := own.differs(pinned); differs {
		return fmt.Errorf("pinned map %s is of another version, though its layout has the same number: run `detach --all` first", name)
	}
	dirs, err := d.otherLayouts()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		n, err := d.migrateFrom(filepath.Join(dir, "maps"), first)
		if err != nil {
			return fmt.Errorf("take over the maps of layout %s: %w: run `detach --all` with the version that made them first", filepath.Base(dir), err)
		}
		d.settling = append(d.settling, dir)
		d.migrated += n
	}
	return pinShape(d.paths.Maps, own)
}

// Migrated tells how many entries of another layout's maps Load has taken over.
func (d *Datapath) Migrated() int { return d.migrated }

// Settle is for when programs of this Load are on every hook that the instance has: what others have written into the maps of another
// layout until then is taken over, and those maps are given up. Mostly there are none.
func (d *Datapath) Settle() error {
	for len(d.settling) > 0 {
		dir := d.settling[0]
		if _, err := d.migrateFrom(filepath.Join(dir, "maps"), false); err != nil {
			return fmt.Errorf("take over the maps of layout %s: %w", filepath.Base(dir), err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove maps of another version: %w", err)
		}
		d.settling = d.settling[1:]
	}
	return nil
}

// written are the maps that the programs themselves enter things into.
func written() []string {
	return []string{bpf.DatapathMapFlows4, bpf.DatapathMapFlows4New, bpf.DatapathMapSocks4}
}

// migrateFrom copies the entries of the maps in a directory: of all, or, where not first, those that are missing in the maps that programs
// write. Out: how many there were.
func (d *Datapath) migrateFrom(dir string, first bool) (int, error) {
	if empty, err := isEmpty(dir); empty || err != nil {
		return 0, err
	}
	other, err := pinnedShape(dir)
	if err != nil {
		return 0, err
	}
	total := 0
	for name, to := range d.shape {
		from, ok := other[name]
		if !ok || !first && !slices.Contains(written(), name) {
			continue
		}
		n, err := d.migrateMap(dir, name, from, to)
		if err != nil {
			return total, fmt.Errorf("map %s: %w", name, err)
		}
		total += n
	}
	return total, nil
}

func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

func (d *Datapath) migrateMap(dir, name string, from, to mapShape) (int, error) {
	old, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, explain(err)
	}
	defer old.Close()
	now, err := ebpf.LoadPinnedMap(filepath.Join(d.paths.Maps, name), nil)
	if err != nil {
		return 0, explain(err)
	}
	defer now.Close()
	if old.Type() != now.Type() {
		return 0, fmt.Errorf("it was of type %v, and is of type %v", old.Type(), now.Type())
	}
	c := copier{old: old, now: now, key: moves(from.Key, to.Key), value: moves(from.Value, to.Value)}
	if slices.Contains(written(), name) {
		c.flags = ebpf.UpdateNoExist
	}
	switch old.Type() {
	case ebpf.Array, ebpf.PerCPUArray:
		return c.array()
	case ebpf.PerCPUHash:
		return c.hashPerCPU()
	case ebpf.LPMTrie: // the agent alone writes it: nothing moves under the walk
		return c.walk()
	default:
		return c.batches()
	}
}

// copier copies the entries of one map into another.
type copier struct {
	old, now   *ebpf.Map
	key, value []move
	flags      ebpf.MapUpdateFlags
	copied     int
}

// bytesOf is a slice of arrays of that many bytes, which is how package ebpf takes entries of a size that is only known now.
func bytesOf(size uint32, n int) reflect.Value {
	return reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]())), n, n)
}

func (c *copier) array() (int, error) {
	perCPU := c.old.Type() == ebpf.PerCPUArray
	cpus := 1
	if perCPU {
		var err error
		if cpus, err = ebpf.PossibleCPU(); err != nil {
			return 0, err
		}
	}
	for i := range min(c.old.MaxEntries(), c.now.MaxEntries()) {
		// A per-CPU value is a slice, any other its one element.
		old, now := bytesOf(c.old.ValueSize(), cpus), bytesOf(c.now.ValueSize(), cpus)
		from, to := reflect.New(old.Type()), now.Interface()
		if perCPU {
			from.Elem().Set(old)
		} else {
			from, to = old.Index(0).Addr(), now.Index(0).Addr().Interface()
		}
		if err := c.old.Lookup(i, from.Interface()); err != nil {
			return c.copied, err
		}
		if perCPU {
			old = from.Elem()
		}
		fits, empty := true, true
		for cpu := range cpus {
			empty = empty && old.Index(cpu).IsZero()
			fits = fits && convert(now.Index(cpu).Slice(0, int(c.now.ValueSize())).Bytes(), old.Index(cpu).Slice(0, int(c.old.ValueSize())).Bytes(), c.value)
		}
		if empty || !fits {
			continue
		}
		if err := c.now.Put(i, to); err != nil {
			return c.copied, err
		}
		c.copied++
	}
	return c.copied, nil
}

// hashPerCPU is for a map into which the agent alone enters keys: nothing moves under the walk.
func (c *copier) hashPerCPU() (int, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, err
	}
	key := make([]byte, c.old.KeySize())
	from := reflect.New(bytesOf(c.old.ValueSize(), cpus).Type())
	it := c.old.Iterate()
	for it.Next(&key, from.Interface()) {
		newKey, now := make([]byte, c.now.KeySize()), bytesOf(c.now.ValueSize(), cpus)
		fits := convert(newKey, key, c.key)
		for cpu := range cpus {
			fits = fits && convert(now.Index(cpu).Slice(0, int(c.now.ValueSize())).Bytes(), from.Elem().Index(cpu).Slice(0, int(c.old.ValueSize())).Bytes(), c.value)
		}
		if !fits {
			continue
		}
		if err := c.now.Put(newKey, now.Interface()); noRoom(err) {
			return c.copied, fmt.Errorf("%w into %d: %w", errNoRoom, c.now.MaxEntries(), err)
		} else if err != nil {
			return c.copied, err
		}
		c.copied++
	}
	return c.copied, it.Err()
}

func (c *copier) walk() (int, error) {
	key, value := make([]byte, c.old.KeySize()), make([]byte, c.old.ValueSize())
	it := c.old.Iterate()
	for it.Next(&key, &value) {
		if err := c.put(key, value); err != nil {
			return c.copied, err
		}
	}
	return c.copied, it.Err()
}

// batches reads bucket by bucket, so that it comes to an end while programs change the map.
func (c *copier) batches() (int, error) {
	var cursor ebpf.MapBatchCursor
	n := 1024
	keys, values := bytesOf(c.old.KeySize(), n), bytesOf(c.old.ValueSize(), n)
	for {
		got, err := c.old.BatchLookup(&cursor, keys.Interface(), values.Interface(), nil)
		if errors.Is(err, unix.ENOSPC) && n < 2*int(c.old.MaxEntries()) { // a bucket holds more
			n *= 2
			keys, values = bytesOf(c.old.KeySize(), n), bytesOf(c.old.ValueSize(), n)
			continue
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return c.copied, err
		}
		for i := range got {
			if err := c.put(keys.Index(i).Slice(0, int(c.old.KeySize())).Bytes(), values.Index(i).Slice(0, int(c.old.ValueSize())).Bytes()); err != nil {
				return c.copied, err
			}
		}
		if err != nil {
			return c.copied, nil
		}
	}
}

// put enters one entry. One that does not fit into its new fields is left behind.
func (c *copier) put(key, value []byte) error {
	newKey, newValue := make([]byte, c.now.KeySize()), make([]byte, c.now.ValueSize())
	if !convert(newKey, key, c.key) || !convert(newValue, value, c.value) {
		return nil
	}
	err := c.now.Update(newKey, newValue, c.flags)
	switch {
	case errors.Is(err, ebpf.ErrKeyExist):
		return nil
	case noRoom(err):
		return fmt.Errorf("%w into %d: %w", errNoRoom, c.now.MaxEntries(), err)
	case err != nil:
		return err
	}
	c.copied++
	return nil
}
