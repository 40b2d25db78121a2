package overlay

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// leave takes a host out of the network without an agent. K-4: nothing stays behind, in the kernel or on disk.
func (p *pair) leave(t *testing.T) {
	t.Helper()
	h := p.hosts[0]
	if err := h.StopAgent(); err != nil {
		t.Fatal(err)
	}
	h.Instance.Run(t, "detach", "--all", "--yes")
	if left, err := os.ReadDir(filepath.Dir(loader.PathsFor(h.Instance.Name).State)); err == nil {
		t.Errorf("left on disk: %v", left)
	}
	if left := h.NS.IP(t, "route show proto 0xeb"); left != "" {
		t.Errorf("routes that are left: %s", left)
	}
}

// leaveForAWhile takes a host out of the network while its agent runs on: it keeps nothing on disk then, whatever the others do. Attached
// again it takes part again, with the subnet of its lease.
func (p *pair) leaveForAWhile(t *testing.T) {
	t.Helper()
	h := p.hosts[0]
	h.Instance.Run(t, "detach", "--all", "--yes")
	p.segment.Etcdctl(t, "put", "/coreos.com/network/subnets/10.200.250.0-24", `{"PublicIP":"198.18.0.250","BackendType":"vxlan"}`)
	folder := filepath.Dir(loader.PathsFor(h.Instance.Name).State)
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Lstat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is there after detach --all: %v", folder, err)
		}
	}
	h.Attach(t, "--bridge", lab.Bridge)
	if got := netip.MustParsePrefix(h.Subnet(t)["FLANNEL_SUBNET"]).Masked(); got != p.subnets[0] {
		t.Errorf("the subnet is %s now, and was %s", got, p.subnets[0])
	}
	awaitPeer(t, h, p.subnets[1], p.hosts[1].IP)
	for i := range p.c {
		p.c[i].NS.Ping(t, 27+i).Ping(t, p.c[1-i].IP.String(), []byte("back again"))
	}
}
