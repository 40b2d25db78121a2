package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// K-11: the product is there first and dockerd comes after it, with its rules or without: nothing is translated twice or has a wrong source, and a
// rule in DOCKER-USER goes on deciding.
func TestDockerdComesLater(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		s.StopDocker(t)
		s.NS.IP(t, "link del docker0")
		s.NS.Run(t, "sh", "-ec", "iptables -P FORWARD ACCEPT; for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done")
		s.Attach(t, append(docker0(), "--wait")...)
		wire := s.Router.Capture(t, "r0")
		s.StartDocker(t)
		web, n := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "n")
		both(t, func(t *testing.T, network string) {
			s.carried(t, "in", 2, func() {
				a := s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080))
				eq(t, "in: who answers", a.Local, web.At(80))
				eq(t, "in: the client", a.Seen().Addr().String(), lab.RemoteIP)
			})
			s.carried(t, "out", 2, func() {
				seen := n.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000), lab.From(netip.AddrPortFrom(n.IP, 45678).String())).Seen()
				eq(t, "out: as seen outside", seen.String(), lab.At(lab.HostIP, 45678))
			})
			eq(t, "hairpin", n.NS.Ask(t, network, lab.At(lab.HostIP, 8080)).Local, web.At(80))
			eq(t, "the host's own", s.NS.Ask(t, network, lab.At("127.0.0.1", 8080)).Name, "web")
			eq(t, "local: the client", n.NS.Ask(t, network, web.At(80)).Seen().Addr().String(), n.IP.String())
		})
		wire.None(t, "a container's own address", within(lab.BridgeNet))
		if s.World != lab.Default {
			return
		}
		flow := n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
		flow.Ask(t)
		s.NS.Run(t, "iptables", "-I", "DOCKER-USER", "-s", n.IP.String(), "-j", "DROP")
		lab.Eventually(t, 10*lab.Patience, func() error {
			if _, err := flow.TryAsk(); err == nil {
				return fmt.Errorf("a connection goes on past the rule")
			}
			return nil
		})
		n.NS.Unanswered(t, "udp", lab.At(lab.RemoteIP, 7000), lab.Within(time.Second))
		eq(t, "the others", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
	})
}
