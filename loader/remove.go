package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// RemoveAll takes an instance out of the kernel: its programs from every device and from the host's sockets, the qdiscs that it made, its
// pins and their directories. What others made stays. It works without anything loaded, goes on after an error, and gives the first one.
// State, log, socket and lock are the agent's to remove. Filters are looked for in the calling thread's network namespace.
func RemoveAll(p Paths) error {
	var first error
	note := func(err error) {
		if first == nil && err != nil {
			first = fmt.Errorf("remove instance %s: %w", p.Instance, err)
		}
	}
	names, err := listLinks(p)
	note(err)
	devices := make(map[int]bool)
	for _, name := range names {
		prefix, ifindex, _, ok := parsePin(name)
		switch {
		case !ok:
			note(fmt.Errorf("%s: not ours", filepath.Join(p.Links, name)))
		case prefix == qdiscPrefix:
			devices[ifindex] = true
		default:
			note(removeLink(filepath.Join(p.Links, name)))
		}
	}
	found, err := ourFilters(p)
	note(err)
	for _, f := range found {
		devices[f.ifindex] = true
	}
	for ifindex := range devices {
		if err := removeClsact(p, ifindex); err != nil {
			note(fmt.Errorf("device %d: %w", ifindex, err))
		}
	}
	note(removePins(p))
	return first
}

// removePins unpins the maps of every layout and removes the instance's directories, and the one that all instances share if this was the
// last.
func removePins(p Paths) error {
	layouts, err := filepath.Glob(filepath.Join(p.BPFFS, "v*"))
	if err != nil {
		return err
	}
	for _, dir := range layouts {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove maps: %w", err)
		}
	}
	for _, dir := range []string{p.Links, p.BPFFS} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove directory: %w", err)
		}
	}
	_ = os.Remove(filepath.Dir(p.BPFFS)) // it stays while another instance is in it
	return nil
}
