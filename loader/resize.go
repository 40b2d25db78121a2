package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// errNoRoom is the cause where the entries of a pinned map do not fit into the size that is asked for.
var errNoRoom = errors.New("its entries do not fit")

// noRoom says whether a map refused an entry because it is full.
func noRoom(err error) bool { return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) }

// outgrown is where the maps of our own layout wait that have other sizes than those that are asked for. They are taken over as another
// layout's are: see Settle.
func (p Paths) outgrown() string { return filepath.Dir(p.Maps) + "_outgrown" }

// resize puts the pinned maps aside where one of them has another size than the settings say, so that new ones are made. Out: what puts them
// back; nil where there is nothing to do. Maps that are put aside already, by an agent that died before it was done, come first: until they
// are given up nothing is resized again.
func resize(p Paths, s Settings) (back func() error, err error) {
	differs := false
	for name, n := range s.entries() {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.Maps, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open pinned map %s: %w", name, explain(err))
		}
		differs = differs || m.MaxEntries() != n
		m.Close()
	}
	// Maps that do not tell what is in them cannot be taken over.
	if !differs || exists(p.outgrown()) || !exists(filepath.Join(p.Maps, shapePin)) {
		return nil, nil
	}
	own := filepath.Dir(p.Maps)
	if err := os.Rename(own, p.outgrown()); err != nil {
		return nil, fmt.Errorf("put maps of another size aside: %w", err)
	}
	return func() error {
		if err := os.RemoveAll(own); err != nil {
			return fmt.Errorf("put maps back: %w", err)
		}
		if err := os.Rename(p.outgrown(), own); err != nil {
			return fmt.Errorf("put maps back: %w", err)
		}
		return nil
	}, nil
}
