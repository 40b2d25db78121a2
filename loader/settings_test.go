package loader

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

func TestSettingsValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Settings)
		want string // part of the error; "" for none
	}{
		{"default", func(*Settings) {}, ""},
		{"one port", func(s *Settings) { s.NATPortMin, s.NATPortMax = 5000, 5000 }, ""},
		{"no flows", func(s *Settings) { s.Flows = 0 }, "flows"},
		{"overflow", func(s *Settings) { s.Flows = 1 << 31 }, "flows"},
		{"too many endpoints", func(s *Settings) { s.Endpoints = 65536 }, "endpoints"},
		{"port 0", func(s *Settings) { s.NATPortMin = 0 }, "nat_port_min"},
		{"crossed ports", func(s *Settings) { s.NATPortMin, s.NATPortMax = 2000, 1999 }, "nat_port_max"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := DefaultSettings()
			tt.edit(&s)
			err := s.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate() = %v, want %q", err, tt.want)
			}
		})
	}
}

// The defaults stand twice, in maps.h and here: they must agree, or else doctor tells of maps that nobody gets.
func TestDefaultSettingsAreTheObjects(t *testing.T) {
	spec, err := bpf.LoadDatapath()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range DefaultSettings().entries() {
		if got := spec.Maps[name].MaxEntries; got != n {
			t.Errorf("map %s: %d entries in maps.h, %d in the settings", name, got, n)
		}
	}
}

// What Memory says of the maps that are reserved at once is held against what the kernel says that it took.
func TestMemory(t *testing.T) {
	needRoot(t)
	if !atLeast(t, 6, 4) {
		t.Skip("this kernel does not tell what a map takes (Linux 6.4)")
	}
	newNamespace(t)
	s := smallSettings()
	s.Flows, s.Endpoints = 8192, 4096
	d, err := load(newPaths(t), probed(t, ""), s, emptySpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	all, err := s.Memory()
	if err != nil {
		t.Fatal(err)
	}
	maps := map[string]*ebpf.Map{
		bpf.DatapathMapFlows4:        d.TC.Flows4,
		bpf.DatapathMapFlows4New:     d.TC.Flows4New,
		bpf.DatapathMapEndpointStats: d.TC.EndpointStats,
		bpf.DatapathMapPathStats:     d.TC.PathStats,
	}
	seen := 0
	for i, m := range all {
		if i > 0 && m.Bytes > all[i-1].Bytes {
			t.Errorf("%s stands behind a smaller map", m.Name)
		}
		kernel, ok := maps[m.Name]
		if !ok {
			continue
		}
		seen++
		info, err := kernel.Info()
		if err != nil {
			t.Fatal(err)
		}
		took, ok := info.Memlock()
		if !ok {
			t.Fatal("the kernel does not tell what a map takes")
		}
		if float64(m.Bytes) < 0.8*float64(took) || float64(m.Bytes) > 1.2*float64(took) {
			t.Errorf("map %s: estimated %d bytes, the kernel took %d", m.Name, m.Bytes, took)
		}
		if !m.Reserved || m.Entries != kernel.MaxEntries() {
			t.Errorf("map %s: %+v, but it has %d entries", m.Name, m, kernel.MaxEntries())
		}
	}
	if seen != len(maps) {
		t.Errorf("%d of %d maps in Memory", seen, len(maps))
	}
}
