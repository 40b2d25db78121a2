package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// table is a map that the control plane writes.
type table[K, V comparable] struct {
	name    string // of the map
	setting string // the user's word for its size; empty where there is none
	m       *ebpf.Map
}

// FullError says that a map takes no more entries.
type FullError struct {
	Map     string
	Entries int    // its size
	Setting string // what to raise; empty where nothing can be done
}

func (e *FullError) Error() string {
	if e.Setting == "" {
		return fmt.Sprintf("map %s is full at %d entries", e.Map, e.Entries)
	}
	return fmt.Sprintf("map %s is full at %d entries: raise the setting %s", e.Map, e.Entries, e.Setting)
}

// load reads the whole map.
func (t *table[K, V]) load() (map[K]V, error) {
	out := make(map[K]V)
	err := scan(t.m, newBuffer[K, V](), func(keys []K, values []V) (bool, error) {
		for i, k := range keys {
			out[k] = values[i]
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read map %s: %w", t.name, err)
	}
	return out, nil
}

// change is the difference between what a table holds and what it should.
type change[K, V comparable] struct {
	table[K, V]
	keys    []K // to add or change
	values  []V
	gone    []K // to delete
	counts  TableChanges
	deleted bool
}

// writer is a change of any table.
type writer interface {
	put() error
	delete() error
	counted() TableChanges
}

// diff finds what has to be written.
func diff[K, V comparable](t table[K, V], have, want map[K]V) *change[K, V] {
	c := &change[K, V]{table: t, counts: TableChanges{Map: t.name}}
	for k, v := range want {
		old, there := have[k]
		switch {
		case !there:
			c.counts.Added++
		case old != v:
			c.counts.Changed++
		default:
			continue
		}
		c.keys, c.values = append(c.keys, k), append(c.values, v)
	}
	for k := range have {
		if _, kept := want[k]; !kept {
			c.gone = append(c.gone, k)
		}
	}
	c.counts.Deleted = len(c.gone)
	return c
}

func (c *change[K, V]) counted() TableChanges {
	return c.counts
}

// put adds and changes entries. Where there is no room for old and new ones together, the old ones go first.
func (c *change[K, V]) put() error {
	if len(c.keys) == 0 {
		return nil
	}
	err := c.putAll()
	if isFull(err) && len(c.gone) > 0 && !c.deleted {
		if err := c.delete(); err != nil {
			return err
		}
		err = c.putAll()
	}
	switch {
	case isFull(err):
		return &FullError{Map: c.name, Entries: int(c.m.MaxEntries()), Setting: c.setting}
	case err != nil:
		return fmt.Errorf("write map %s: %w", c.name, err)
	}
	return nil
}

func (c *change[K, V]) putAll() error {
	_, err := c.m.BatchUpdate(c.keys, c.values, nil)
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	for i := range c.keys {
		if err := c.m.Put(&c.keys[i], &c.values[i]); err != nil {
			return err
		}
	}
	return nil
}

// delete removes what should not be there. What is gone already is no error.
func (c *change[K, V]) delete() error {
	if len(c.gone) == 0 || c.deleted {
		return nil
	}
	c.deleted = true
	_, err := c.m.BatchDelete(c.gone, nil)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
		for i := range c.gone {
			if e := c.m.Delete(&c.gone[i]); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
				err = e
			}
		}
	}
	if err != nil {
		return fmt.Errorf("delete from map %s: %w", c.name, err)
	}
	return nil
}

// isFull knows the answers of a hash table and of an LPM trie.
func isFull(err error) bool {
	return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC)
}
