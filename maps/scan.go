package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// chunk is how many entries are read at once: enough to make the call's cost small, few enough to stay small in memory.
const chunk = 1024

// buffer is what a scan reads into. One may serve any number of scans, one after the other.
type buffer[K comparable, V any] struct {
	keys   []K
	values []V
}

func newBuffer[K comparable, V any]() *buffer[K, V] {
	return &buffer[K, V]{keys: make([]K, chunk), values: make([]V, chunk)}
}

// scan calls fn with the entries of a map, some at a time, until it returns false. While others change the map, an entry that stands there
// all along is seen once, one that comes or goes once or not at all. The slices are the buffer's and hold only until fn returns.
func scan[K comparable, V any](m *ebpf.Map, b *buffer[K, V], fn func(keys []K, values []V) (bool, error)) error {
	var cursor ebpf.MapBatchCursor
	for first := true; ; first = false {
		// The kernel goes from bucket to bucket and reads each whole under its lock, so that the cursor only moves on and the scan ends.
		n, err := m.BatchLookup(&cursor, b.keys, b.values, nil)
		switch {
		case err == nil, errors.Is(err, ebpf.ErrKeyNotExist):
		case errors.Is(err, unix.ENOSPC) && len(b.keys) < 2*int(m.MaxEntries()):
			// A bucket holds more than the buffer.
			b.keys, b.values = make([]K, 2*len(b.keys)), make([]V, 2*len(b.values))
			continue
		case first && errors.Is(err, ebpf.ErrNotSupported):
			return scanSingly(m, b, fn)
		default:
			return err
		}
		more, ferr := fn(b.keys[:n], b.values[:n])
		if ferr != nil || !more || err != nil {
			return ferr
		}
	}
}

// scanSingly is scan where the kernel cannot look up many entries at once (LPM tries before 5.13). A key that is deleted in the meantime
// sends the kernel back to the beginning, so what was seen is remembered and the steps are counted.
func scanSingly[K comparable, V any](m *ebpf.Map, b *buffer[K, V], fn func(keys []K, values []V) (bool, error)) error {
	seen := make(map[K]bool)
	var prev any // the first key is the one after nil
	n := 0
	for range 4 * int(m.MaxEntries()) {
		var key K
		if err := m.NextKey(prev, &key); errors.Is(err, ebpf.ErrKeyNotExist) {
			_, err = fn(b.keys[:n], b.values[:n])
			return err
		} else if err != nil {
			return err
		}
		prev = key
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := m.Lookup(&key, &b.values[n]); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		} else if err != nil {
			return err
		}
		b.keys[n] = key
		if n++; n == len(b.keys) {
			if more, err := fn(b.keys, b.values); err != nil || !more {
				return err
			}
			n = 0
		}
	}
	return fmt.Errorf("the entries change faster than they can be read")
}
