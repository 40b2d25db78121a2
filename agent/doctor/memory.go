package doctor

import (
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
)

// memory says how large the maps are, or would be with the default sizes, and what they take.
func memory(p loader.Paths) []api.Finding {
	settings, which := loader.DefaultSettings(), "with the default sizes"
	if found, ok := pinnedSettings(p, settings); ok {
		settings, which = found, "as they are pinned"
	}
	maps, err := settings.Memory()
	if err != nil {
		return []api.Finding{{Level: Warning, Check: "maps", Found: err.Error()}}
	}
	var out []api.Finding
	var reserved, most uint64
	for _, m := range maps {
		most += m.Bytes
		when := "when full"
		if m.Reserved {
			reserved += m.Bytes
			when = "at once"
		}
		out = append(out, api.Finding{Level: OK, Check: "map " + m.Name, Found: fmt.Sprintf("%d entries, %s %s", m.Entries, mib(m.Bytes), when)})
	}
	return append(out, api.Finding{Level: OK, Check: "maps",
		Found: fmt.Sprintf("%s: %s at once, %s when all are full", which, mib(reserved), mib(most))})
}

// pinnedSettings gives the sizes of an instance's maps, where there are any.
func pinnedSettings(p loader.Paths, s loader.Settings) (loader.Settings, bool) {
	found := false
	for name, set := range map[string]func(n uint32){
		bpf.DatapathMapFlows4:     func(n uint32) { s.Flows = n / 2 },
		bpf.DatapathMapFlows4New:  func(n uint32) { s.NewFlows = n / 2 },
		bpf.DatapathMapEndpoints4: func(n uint32) { s.Endpoints = n },
		bpf.DatapathMapPublish4:   func(n uint32) { s.Published = n },
		bpf.DatapathMapSocks4:     func(n uint32) { s.HostSockets = n },
	} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.Maps, name), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			continue
		}
		set(m.MaxEntries())
		m.Close()
		found = true
	}
	return s, found
}

func mib(bytes uint64) string {
	const unit = 1 << 20
	if bytes < unit/10 {
		return fmt.Sprintf("%.1f KiB", float64(bytes)/1024)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/unit)
}
