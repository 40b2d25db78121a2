package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// size is a setting that says how large a table is.
type size struct {
	name  string // as Settings' JSON has it
	value *uint32
	table string
	each  uint32 // entries of the table for one of what the setting counts
}

func (s *Settings) sizes() []size {
	return []size{
		{"flows", &s.Flows, bpf.DatapathMapFlows4, 2},
		{"new_flows", &s.NewFlows, bpf.DatapathMapFlows4New, 2},
		{"endpoints", &s.Endpoints, bpf.DatapathMapEndpoints4, 1},
		{"published", &s.Published, bpf.DatapathMapPublish4, 1},
		{"host_sockets", &s.HostSockets, bpf.DatapathMapSocks4, 1},
	}
}

// Kept gives the settings with the sizes that an instance's tables have, but for those that somebody asks to be as the settings say: an agent
// that is started in another way than the one before must not resize what nobody spoke of. asked are names as in the JSON form, with - or _.
// Tables that are waiting to be taken over, for their size or for their layout, count where there are no others. Out: also whether there are any.
func (s Settings) Kept(p Paths, asked ...string) (kept Settings, found bool, err error) {
	for _, z := range s.sizes() {
		if slices.ContainsFunc(asked, func(name string) bool { return strings.ReplaceAll(name, "-", "_") == z.name }) {
			continue
		}
		n, err := pinnedSize(p, z.table)
		if err != nil {
			return s, false, err
		}
		if n >= z.each {
			*z.value, found = n/z.each, true
		}
	}
	return s, found, nil
}

// pinnedSize gives how many entries a pinned table has room for; 0: there is none.
func pinnedSize(p Paths, table string) (uint32, error) {
	others, err := filepath.Glob(filepath.Join(p.BPFFS, "v*", "maps"))
	if err != nil {
		return 0, err
	}
	for _, dir := range append([]string{p.Maps}, others...) {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, table), &ebpf.LoadPinOptions{ReadOnly: true})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("open pinned map %s: %w", table, explain(err))
		}
		defer m.Close()
		return m.MaxEntries(), nil
	}
	return 0, nil
}
