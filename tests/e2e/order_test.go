package e2e

import (
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// K-11: ebpfnet is there before dockerd, as at boot, with a firewall of somebody else's and without: what dockerd makes is attached when it comes, in
// the mode that the rules ask for, nothing is translated twice, and everybody is seen as who he is.
func TestBeforeDockerd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, mode string
		guards     []string
	}{
		{name: "native", mode: "native"},
		{name: "offload", mode: "offload", guards: []string{"iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
			"nft add table inet guard ; add chain inet guard way { type filter hook forward priority 10 ; } ; add rule inet guard way tcp dport 7001 drop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := suite.NewHost(t, lab.Default)
			s := site{h, h.Instance(t)}
			t.Cleanup(func() {
				if t.Failed() {
					s.Report(t)
				}
			})
			s.Remote.Serve(t, "far", ":7000")
			s.Remote.Serve(t, "far", ":7001")
			s.StopDocker(t)
			s.NS.IP(t, "link del docker0")
			s.command(t, "nft flush ruleset")
			for _, g := range tt.guards {
				s.command(t, g)
			}
			s.Attach(t, append(docker0(), "--wait")...)
			eq(t, "attached before it is there", s.Status(t).Bridges[0].Attached, false)
			s.StartDocker(t)
			web, n := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "n")
			s.awaitMode(t, tt.mode)
			both(t, func(t *testing.T, network string) {
				client := s.Remote.Dial(t, network, lab.At(lab.HostIP, 8080))
				in := client.Ask(t)
				eq(t, "in: who answers", in.Name, "web")
				eq(t, "in: the client, as web sees it", in.Client, client.Conn().LocalAddr().String())
				eq(t, "in: the address that is dialled, as web sees it", in.Local, web.At(80))
				eq(t, "out: as far sees it", n.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
				if tt.mode == "offload" && network == "tcp" {
					n.NS.Unanswered(t, network, lab.At(lab.RemoteIP, 7001))
				}
			})
			tracked := s.NS.Run(t, "conntrack", "-L")
			// What ebpfnet translates the kernel does not know of; what the kernel translates nobody else has.
			if got := strings.Contains(tracked, "dport=8080") && strings.Contains(tracked, "dport=7000"); got != (tt.mode == "offload") {
				t.Errorf("the kernel tracks: %s", tracked)
			}
			s.Ebpfnet(t, "detach", "--all", "--yes")
			eq(t, "detached: in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
		})
	}
}
