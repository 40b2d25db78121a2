package loader

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Settings are the sizes of the maps and what else is fixed when the programs are loaded. What happens to tables
// of another size that are there already stands in resize.go and sizes.go.
type Settings struct {
	Flows       uint32 `json:"flows"`        // flows that have been answered; each takes two entries
	NewFlows    uint32 `json:"new_flows"`    // flows that have not
	Endpoints   uint32 `json:"endpoints"`    // addresses of containers; at most 65535
	Published   uint32 `json:"published"`    // published ports, one for each port of a range and each address
	HostSockets uint32 `json:"host_sockets"` // sockets of the host towards published ports

	// The ports that a masqueraded flow leaves with when it cannot keep its own, both included.
	NATPortMin uint16 `json:"nat_port_min"`
	NATPortMax uint16 `json:"nat_port_max"`

	// The largest TCP segment size that a connection across networks may announce, in bytes, beside what its route takes; 0: none is changed.
	MSS uint16 `json:"mss"`

	// The programs of an overlay, but for those of datagrams alone, are loaded with the others, and not when they are attached first.
	Overlay bool `json:"-"`
}

// DefaultSettings are those of a host with up to some thousand containers.
func DefaultSettings() Settings {
	return Settings{
		Flows:       262144,
		NewFlows:    32768,
		Endpoints:   16384,
		Published:   262144,
		HostSockets: 65536,
		NATPortMin:  1024,
		NATPortMax:  65535,
		MSS:         65535,
	}
}

// Validate says whether the settings can be loaded.
func (s Settings) Validate() error {
	for _, size := range []struct {
		name  string
		value uint32
		max   uint32
	}{
		{"flows", s.Flows, 1 << 26},
		{"new_flows", s.NewFlows, 1 << 26},
		{"endpoints", s.Endpoints, 1<<16 - 1}, // a slot is 16 bits wide
		{"published", s.Published, 1 << 26},
		{"host_sockets", s.HostSockets, 1 << 26},
	} {
		if size.value == 0 || size.value > size.max {
			return fmt.Errorf("setting %s: %d is not within 1 to %d", size.name, size.value, size.max)
		}
	}
	if s.NATPortMin == 0 {
		return errors.New("setting nat_port_min: 0 is not a port")
	}
	if s.NATPortMin > s.NATPortMax {
		return fmt.Errorf("setting nat_port_min: %d is above nat_port_max, %d", s.NATPortMin, s.NATPortMax)
	}
	return nil
}

// entries gives max_entries of the maps that have a setting.
func (s Settings) entries() map[string]uint32 {
	return map[string]uint32{
		bpf.DatapathMapFlows4:        2 * s.Flows,
		bpf.DatapathMapFlows4New:     2 * s.NewFlows,
		bpf.DatapathMapEndpoints4:    s.Endpoints,
		bpf.DatapathMapVeths:         s.Endpoints,
		bpf.DatapathMapEndpointStats: s.Endpoints,
		bpf.DatapathMapPublish4:      s.Published,
		bpf.DatapathMapSocks4:        s.HostSockets,
	}
}

// apply writes the sizes into a specification.
func (s Settings) apply(spec *ebpf.CollectionSpec) error {
	for name, n := range s.entries() {
		m, ok := spec.Maps[name]
		if !ok {
			return fmt.Errorf("size map %s: not in the object", name)
		}
		m.MaxEntries = n
	}
	return nil
}

// MapMemory is what one map takes. Bytes is an estimate for a full map; where Reserved, the kernel takes it when the map is made.
type MapMemory struct {
	Name     string `json:"name"`
	Entries  uint32 `json:"entries"`
	Bytes    uint64 `json:"bytes"`
	Reserved bool   `json:"reserved"`
}

// Memory estimates what each map takes with these settings, the largest first.
func (s Settings) Memory() ([]MapMemory, error) {
	spec, err := bpf.LoadDatapath()
	if err != nil {
		return nil, fmt.Errorf("estimate memory: %w", err)
	}
	if err := s.apply(spec); err != nil {
		return nil, fmt.Errorf("estimate memory: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("estimate memory: count processors: %w", err)
	}
	var all []MapMemory
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue // constants and scratch space, some hundred bytes
		}
		all = append(all, MapMemory{Name: name, Entries: m.MaxEntries, Bytes: mapBytes(m, cpus), Reserved: m.Flags&bpfNoPrealloc == 0})
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].Bytes != all[j].Bytes {
			return all[i].Bytes > all[j].Bytes
		}
		return all[i].Name < all[j].Name
	})
	return all, nil
}

// bpfNoPrealloc is BPF_F_NO_PREALLOC (include/uapi/linux/bpf.h).
const bpfNoPrealloc = 1

// mapBytes follows how the kernel lays maps out (kernel/bpf/hashtab.c, arraymap.c, lpm_trie.c) on a 64-bit machine.
func mapBytes(m *ebpf.MapSpec, cpus int) uint64 {
	const (
		hashElement = 48 // struct htab_elem
		hashBucket  = 16
		trieNode    = 48 // struct lpm_trie_node and the allocator's rounding
	)
	round8 := func(n uint32) uint64 { return (uint64(n) + 7) &^ 7 }
	n := uint64(m.MaxEntries)
	switch m.Type {
	case ebpf.Hash, ebpf.LRUHash:
		buckets := uint64(1) << bits.Len64(n-1)
		return n*(hashElement+round8(m.KeySize)+round8(m.ValueSize)) + buckets*hashBucket
	case ebpf.LPMTrie:
		// Up to one inner node for each entry.
		return 2 * n * (trieNode + round8(m.KeySize-4) + round8(m.ValueSize))
	case ebpf.PerCPUHash:
		buckets := uint64(1) << bits.Len64(n-1)
		return n*(hashElement+round8(m.KeySize)+8+round8(m.ValueSize)*uint64(cpus)) + buckets*hashBucket
	case ebpf.PerCPUArray:
		return n * (8 + round8(m.ValueSize)*uint64(cpus))
	default:
		return n * round8(m.ValueSize)
	}
}
