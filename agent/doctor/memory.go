package doctor

import (
	"fmt"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

// memory says how large the maps are, or would be with the default sizes, and what they take.
func memory(p loader.Paths) []api.Finding {
	settings, which := loader.DefaultSettings(), "with the default sizes"
	if kept, there, err := settings.Kept(p); err == nil && there {
		settings, which = kept, "as they are pinned"
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

func mib(bytes uint64) string {
	const unit = 1 << 20
	if bytes < unit/10 {
		return fmt.Sprintf("%.1f KiB", float64(bytes)/1024)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/unit)
}
