package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/maps"
)

// F-3: what an administrator has set for connection tracking holds for the flow table; the rest keeps its default.
func TestHostTimeouts(t *testing.T) {
	dir := t.TempDir()
	set := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := hostTimeouts(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(maps.DefaultTimeouts(), got); diff != "" {
		t.Errorf("without connection tracking (-want +got):\n%s", diff)
	}

	set("nf_conntrack_tcp_timeout_established", "86400\n")
	set("nf_conntrack_udp_timeout", "7\n")
	want := maps.DefaultTimeouts()
	want.TCPEstablished, want.UDPNew = 24*time.Hour, 7*time.Second
	if got, err = hostTimeouts(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("with two of its own (-want +got):\n%s", diff)
	}

	set("nf_conntrack_icmp_timeout", "soon\n")
	if _, err := hostTimeouts(dir); err == nil {
		t.Error("a timeout that is no number was taken")
	}
}
