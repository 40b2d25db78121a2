package lease

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// overlay L1: the file that dockerd's start reads, in flannel's format; read while it is written it is whole.
func TestSubnetFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "subnet.env")
	n := overlay.Network{Prefix: netip.MustParsePrefix("10.200.0.0/16")}
	if p, err := ReadSubnetFile(path); err != nil || p.IsValid() {
		t.Errorf("without a file: %v %v", p, err)
	}
	if err := WriteSubnetFile(path, n, netip.MustParsePrefix("10.200.37.0/24"), 1450); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "FLANNEL_NETWORK=10.200.0.0/16\nFLANNEL_SUBNET=10.200.37.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if string(b) != want {
		t.Errorf("wrote %q, want %q", b, want)
	}
	done := make(chan error)
	go func() {
		for i := range 200 {
			if err := WriteSubnetFile(path, n, netip.MustParsePrefix("10.200.37.0/24"), 1400+i); err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if p, err := ReadSubnetFile(path); err != nil || p.String() != "10.200.37.0/24" {
				t.Fatalf("read %v %v", p, err)
			}
		}
	}
}

func TestDockerConfig(t *testing.T) {
	subnet := netip.MustParsePrefix("10.200.37.0/24")
	for _, tt := range []struct {
		name, have, want, err string
		changed               bool
	}{
		{name: "none", want: `{"bip": "10.200.37.1/24", "mtu": 1450}`, changed: true},
		{name: "empty", have: "\n", want: `{"bip": "10.200.37.1/24", "mtu": 1450}`, changed: true},
		{name: "merged", have: `{"debug":true,"log-opts":{"max-size":"1m"}}`,
			want: `{"bip": "10.200.37.1/24", "debug": true, "log-opts": {"max-size": "1m"}, "mtu": 1450}`, changed: true},
		{name: "there already", have: `{"mtu":1450,"bip":"10.200.37.1/24"}`, want: `{"mtu":1450,"bip":"10.200.37.1/24"}`},
		{name: "another bridge", have: `{"bip":"172.17.0.1/16"}`, want: `{"bip":"172.17.0.1/16"}`, err: "172.17.0.1/16"},
		{name: "another MTU", have: `{"mtu":1500}`, want: `{"mtu":1500}`, err: "1500"},
		{name: "not JSON", have: `mtu=1500`, want: `mtu=1500`, err: "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "daemon.json")
			if tt.have != "" {
				if err := os.WriteFile(path, []byte(tt.have), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			changed, err := WriteDockerConfig(path, subnet, 1450)
			if changed != tt.changed || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("changed %v, error %v", changed, err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(string(b)), " "); strings.NewReplacer("{ ", "{", " }", "}").Replace(got) != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			if info, err := os.Stat(path); err != nil || tt.have != "" && info.Mode().Perm() != 0o640 {
				t.Errorf("%v %v", info.Mode(), err)
			}
		})
	}
}

// K-4: a file is removed with what a writer that was killed has left beside it, and with nothing else.
func TestRemoveFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "overlay.json")
	if err := writeFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	half, err := os.CreateTemp(dir, unfinished(path))
	if err != nil {
		t.Fatal(err)
	}
	half.Close()
	if err := os.WriteFile(filepath.Join(dir, "state.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that is not there is no error
		if err := RemoveFile(path); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "state.json" {
		t.Errorf("left: %v, %v", left, err)
	}
}
