package overlay

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// overlay S1, overlay S3: ten thousand other hosts, from etcd to the programs' tables: how long it takes until all are known, until one more is,
// until a thousand are gone, and how much memory the agent has then. What is known goes on working meanwhile. The figures are printed, not
// asserted: they are the machine's too.
func TestManyHosts(t *testing.T) {
	const many, going = 10_000, 4 * 256
	g := suite.NewSegment(t, lab.Native)
	g.StartEtcd(t)
	g.Etcdctl(t, "put", lab.NetworkKey, `{"Network":"10.0.0.0/8","SubnetMin":"10.200.0.0","SubnetMax":"10.200.255.0","Backend":{"Type":"vxlan"}}`)
	put := func(from, to int) {
		t.Helper()
		for at := from; at < to; at += 100 {
			var txn strings.Builder
			txn.WriteString("\n")
			for i := at; i < min(at+100, to); i++ {
				fmt.Fprintf(&txn, "put /coreos.com/network/subnets/10.%d.%d.0-24 %q\n", 100+i>>8, i&255, fmt.Sprintf(
					`{"PublicIP":"198.19.%d.%d","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:%02x:%02x"}}`, i>>8, i&255, i>>8, i&255))
			}
			txn.WriteString("\n\n")
			cmd := g.Router.Command(context.Background(), "env", "ETCDCTL_API=3", "etcdctl", "--endpoints", "http://127.0.0.1:2379", "txn")
			cmd.Stdin = strings.NewReader(txn.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("etcdctl txn: %v\n%s", err, out)
			}
		}
	}
	a, b := g.Join(t), g.Join(t)
	ca, cb := a.Host.Run(t, "a"), b.Host.Run(t, "b")
	a.Await(t, ca)
	b.Await(t, cb)
	known := func(want int) {
		t.Helper()
		lab.Eventually(t, time.Minute, func() error {
			var all []api.Peer
			a.JSON(t, &all, "peer", "list")
			if len(all) != want {
				return fmt.Errorf("%d peers, want %d", len(all), want)
			}
			return nil
		})
	}
	known(1)
	client := ca.NS.Dial(t, "tcp", cb.At(80))
	client.Ask(t)
	if err := a.StopAgent(); err != nil {
		t.Fatal(err)
	}
	put(0, many)
	client.Ask(t)
	began := time.Now()
	a.StartAgent(t)
	known(many + 1)
	t.Logf("%d hosts are known %v after the agent's start", many, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	put(many, many+1)
	known(many + 2)
	t.Logf("one more after %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	// Four times 256 of them.
	for _, prefix := range []string{"10.100.", "10.101.", "10.102.", "10.103."} {
		g.Etcdctl(t, "del", "--prefix", "/coreos.com/network/subnets/"+prefix)
	}
	known(many + 2 - going)
	t.Logf("a thousand fewer after %v", time.Since(began).Round(time.Millisecond))
	client.Ask(t)
	ca.NS.Ask(t, "udp", cb.At(80))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Status(t).Agent.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			t.Log(strings.Join(strings.Fields(line), " "))
		}
	}
}
