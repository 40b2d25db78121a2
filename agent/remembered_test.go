package agent

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/policy"
)

// K-9: what Docker said is there for the next agent, is written when it changes and not otherwise, and goes with what is attached.
func TestRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "i.docker")
	a := &Agent{}
	a.o.Paths.Docker = path
	o := policy.Observed{
		Containers: []policy.Container{{
			ID: "aaaa", Name: "web", Labels: map[string]string{"tier": "front"}, NetworkMode: "bridge",
			Attachments: []policy.Attachment{{Network: "bridge", NetworkID: "n1", MAC: []byte{2, 0, 0, 0, 0, 1}, Addr: netip.MustParseAddr("172.17.0.2")}},
			Ports:       []policy.ContainerPort{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Proto: 6}},
			Exposed:     []policy.PortProto{{Port: 80, Proto: 6}},
		}},
		Networks: []policy.Network{{ID: "n1", Name: "bridge", Bridge: "docker0", Internal: true, Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}}},
	}
	if err := a.rememberDocker(o); err != nil {
		t.Fatal(err)
	}
	got, err := loadRemembered(path)
	if diff := cmp.Diff(remembered{o.Containers, o.Networks}, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: labels may be secret", info, err)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := a.rememberDocker(o); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written again though nothing has changed: %v", err)
	}
	o.Containers[0].Name = "other"
	if err := a.rememberDocker(o); err != nil {
		t.Error(err)
	}
	if got, err := loadRemembered(path); err != nil || got.Containers[0].Name != "other" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := a.forgetDocker(); err != nil {
		t.Error(err)
	}
	if got, err := loadRemembered(path); err != nil || len(got.Containers) > 0 {
		t.Errorf("forgotten, but: %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := loadRemembered(path); err == nil || len(got.Containers) > 0 {
		t.Errorf("half a file: %+v, %v", got, err)
	}
}
