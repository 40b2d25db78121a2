package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Hooks are an instance's programs on one device.
type Hooks struct {
	Kind     string   // "tcx" or "clsact"; "tcx" where, for the moment of a change, it is both
	Programs []string // names as in package bpf, sorted; each once
	Gone     bool     // the device no longer exists: Detach removes what is left of it
}

// Attached lists the devices that have programs of this instance, by ifindex: see the function of the same name.
func (d *Datapath) Attached() (map[int]Hooks, error) { return Attached(d.paths) }

// Attached lists the devices that have programs of an instance, by ifindex: links from their pins, filters from the devices of the calling
// thread's network namespace. What others attached is not listed, and what others removed is missing.
func Attached(p Paths) (map[int]Hooks, error) {
	hooks := make(map[int]Hooks)
	add := func(ifindex int, kind, program string, gone bool) {
		h := hooks[ifindex]
		if h.Kind == "" {
			h.Kind = kind
		}
		if !slices.Contains(h.Programs, program) {
			h.Programs = append(h.Programs, program)
			slices.Sort(h.Programs)
		}
		h.Gone = gone
		hooks[ifindex] = h
	}
	names, err := listLinks(p)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		prefix, ifindex, program, ok := parsePin(name)
		if !ok || prefix != tcxPrefix {
			continue
		}
		alive, err := tcxAlive(p.tcxPin(ifindex, program))
		if err != nil {
			return nil, fmt.Errorf("list attached programs: %s: %w", name, err)
		}
		add(ifindex, hookTCX, program, !alive)
	}
	found, err := ourFilters(p)
	if err != nil {
		return nil, fmt.Errorf("list attached programs: %w", err)
	}
	for _, f := range found {
		program, _ := p.ourProgram(f)
		add(f.ifindex, hookClsact, program, false)
	}
	return hooks, nil
}

// listLinks gives the names of what stands in the directory of links. No directory is an empty one.
func listLinks(p Paths) ([]string, error) {
	entries, err := os.ReadDir(p.Links)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// tcxAlive says whether a pinned link still has its device.
func tcxAlive(pin string) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	tcx := info.TCX()
	return tcx != nil && tcx.Ifindex != 0, nil
}

// ourFilters lists this instance's filters on all devices.
func ourFilters(p Paths) ([]tcObject, error) {
	qdiscs, err := tcDump(unix.RTM_GETQDISC, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	var ours []tcObject
	for _, q := range qdiscs {
		if q.kind != hookClsact {
			continue
		}
		for _, dir := range []direction{ingress, egress} {
			there, err := filters(q.ifindex, dir)
			if err != nil {
				return nil, err
			}
			for _, f := range there {
				if _, ok := p.ourProgram(f); ok {
					f.ifindex = q.ifindex
					ours = append(ours, f)
				}
			}
		}
	}
	return ours, nil
}
