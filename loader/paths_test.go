package loader

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidateInstance(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"default", true},
		{"a", true},
		{"0-a_b", true},
		{strings.Repeat("a", 32), true},
		{strings.Repeat("a", 33), false},
		{"", false},
		{"-a", false},
		{"_a", false},
		{"a.b", false},
		{"A", false},
		{"a/b", false},
		{"..", false},
		{"a\n", false},
	} {
		if err := ValidateInstance(tt.name); (err == nil) != tt.ok {
			t.Errorf("ValidateInstance(%q) = %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestPathsFor(t *testing.T) {
	want := Paths{
		Instance:   "x",
		BPFFSMount: "/sys/fs/bpf",
		BPFFS:      "/sys/fs/bpf/ebpfnet/x",
		Maps:       "/sys/fs/bpf/ebpfnet/x/v5/maps",
		Programs:   "/sys/fs/bpf/ebpfnet/x/v5/programs",
		Links:      "/sys/fs/bpf/ebpfnet/x/links",
		State:      "/var/lib/ebpfnet/x/state.json",
		Run:        "/run/ebpfnet",
		Socket:     "/run/ebpfnet/x.sock",
		Lock:       "/run/ebpfnet/x.lock",
		Docker:     "/run/ebpfnet/x.docker",
		Log:        "/var/log/ebpfnet/x.log",
		Policies:   "/etc/ebpfnet/policies.x",
	}
	if diff := cmp.Diff(want, PathsFor("x")); diff != "" {
		t.Error(diff)
	}
}

func TestParsePin(t *testing.T) {
	type parsed struct {
		Prefix  string
		Ifindex int
		Program string
		OK      bool
	}
	p := PathsFor("x")
	for _, tt := range []struct {
		name string
		want parsed
	}{
		{filepath.Base(p.tcxPin(7, "from_container")), parsed{"tcx", 7, "from_container", true}},
		{filepath.Base(p.cgroupPin("sock_connect4")), parsed{"cgroup", 0, "sock_connect4", true}},
		{filepath.Base(p.qdiscMark(9)), parsed{"qdisc", 9, "", true}},
		{"tcx_7", parsed{}},
		{"tcx_0_x", parsed{}},
		{"tcx_x_y", parsed{}},
		{"qdisc_7_x", parsed{}},
		{"other", parsed{}},
		{"", parsed{}},
	} {
		var got parsed
		got.Prefix, got.Ifindex, got.Program, got.OK = parsePin(tt.name)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("parsePin(%q): %s", tt.name, diff)
		}
	}
}
