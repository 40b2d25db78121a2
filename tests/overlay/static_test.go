package overlay

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Hosts without an etcd, which are told of each other by hand and by a file. J-10: one that is told of a subnet that is its own refuses it, and
// says what to do.
func TestStatic(t *testing.T) {
	eachWorld(t, func(t *testing.T, w lab.World) {
		p := &pair{segment: suite.NewSegment(t, w)}
		for i := range p.hosts {
			p.subnets[i] = netip.MustParsePrefix(fmt.Sprintf("10.20%d.0.0/24", i))
			h := p.segment.Add(t)
			p.hosts[i] = h
			h.StartAgent(t)
			h.Begin(t, "--bip", netip.PrefixFrom(p.subnets[i].Addr().Next(), 24).String(), "--mtu", "1450")
			h.Attach(t, "--bridge", lab.Bridge)
		}
		a, b := p.hosts[0], p.hosts[1]
		if o := a.Instance.Try(t, "peer", "add", p.subnets[0].String(), "--via", b.IP); o.Code != 1 || !strings.Contains(o.Stderr, "--bip") {
			t.Errorf("J-10: exit %d: %s", o.Code, o.Stderr)
		}
		a.Instance.Run(t, "peer", "add", p.subnets[1].String(), "--via", b.IP)
		file := filepath.Join(t.TempDir(), "peers")
		lines := fmt.Sprintf("# hosts\n%s %s\n%s %s\n", p.subnets[0], a.IP, p.subnets[1], b.IP)
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		b.Instance.Run(t, "peer", "add", "-f", file)
		p.complete(t)
		meet := func() {
			t.Helper()
			for i := range p.hosts {
				for _, proto := range []string{"tcp", "udp"} {
					if seen := p.c[i].NS.Ask(t, proto, p.c[1-i].At(80)).Seen().Addr(); seen != p.c[i].IP {
						t.Errorf("%s from container %s is seen as %s", proto, p.c[i].IP, seen)
					}
				}
				p.hosts[i].NS.Ask(t, "tcp", p.c[1-i].At(80))
			}
		}
		meet()
		// What was told is known after a restart.
		if err := a.StopAgent(); err != nil {
			t.Fatal(err)
		}
		a.StartAgent(t)
		awaitPeer(t, a, p.subnets[1], b.IP)
		meet()
		a.Instance.Run(t, "peer", "remove", p.subnets[1].String())
		if list := a.Instance.Run(t, "peer", "list"); strings.Contains(list, p.subnets[1].String()) {
			t.Errorf("it is still there: %s", list)
		}
		p.c[0].NS.Unanswered(t, "udp", p.c[1].At(80))
	})
}
