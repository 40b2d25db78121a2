package e2e

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// H-21: another's translation of other ports on the same host goes on as it was.
func TestOthersTranslation(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		rules := [][]string{
			{"PREROUTING", "-d", lab.HostIP, "-p", "tcp", "--dport", "9090", "-j", "DNAT", "--to-destination", lab.At(lab.RemoteIP, 7000)},
			{"POSTROUTING", "-d", lab.RemoteIP, "-p", "tcp", "--dport", "7000", "-s", lab.RouterIP, "-j", "MASQUERADE"},
			{"PREROUTING", "-d", lab.HostIP, "-p", "tcp", "--dport", "9091", "-j", "REDIRECT", "--to-ports", "9092"},
		}
		for _, r := range rules {
			s.NS.Run(t, "iptables", append([]string{"-t", "nat", "-A"}, r...)...)
			t.Cleanup(func() { s.NS.Run(t, "iptables", append([]string{"-t", "nat", "-D"}, r...)...) })
		}
		// Docker's own chain forwards nobody else's.
		s.NS.Run(t, "iptables", "-A", "FORWARD", "-d", lab.RemoteIP, "-j", "ACCEPT")
		t.Cleanup(func() { s.NS.Run(t, "iptables", "-D", "FORWARD", "-d", lab.RemoteIP, "-j", "ACCEPT") })
		s.NS.Run(t, "iptables", "-A", "FORWARD", "-s", lab.RemoteIP, "-j", "ACCEPT")
		t.Cleanup(func() { s.NS.Run(t, "iptables", "-D", "FORWARD", "-s", lab.RemoteIP, "-j", "ACCEPT") })
		s.NS.Serve(t, "redirected", ":9092")
		eq(t, "who answers behind the other's DNAT", s.Router.Ask(t, "tcp", lab.At(lab.HostIP, 9090)).Name, "far")
		eq(t, "who answers behind the other's redirection", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 9091)).Name, "redirected")
		s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080))
		c.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000))
	})
}
