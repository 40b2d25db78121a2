package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// pause stops the agent's process, as if it were busy, until resume is called or the test ends.
func pause(t *testing.T, s site) (resume func()) {
	t.Helper()
	pid := s.Status(t).Agent.PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("stop agent %d: %v", pid, err)
	}
	resume = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(resume)
	return resume
}

// ip runs several commands of ip(8) in a namespace.
func ip(t testing.TB, n *lab.Netns, lines ...string) {
	t.Helper()
	for _, line := range lines {
		n.IP(t, line)
	}
}

// within matches IPv4 packets whose source or destination lies in a network.
func within(network string) func(lab.Packet) bool {
	prefix := netip.MustParsePrefix(network)
	return func(p lab.Packet) bool {
		return p.IP != nil && (prefix.Contains(p.Source().Addr()) || prefix.Contains(p.Destination().Addr()))
	}
}

// G-12: a bridge that does not exist yet is attached the moment it does, and the first packets that are sent on it are right.
func TestBridgeAppears(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		o := s.Try(t, "attach", "--bridge", "br-late")
		eq(t, "exit code without --wait", o.Code, 1)
		oneLine(t, o, "br-late", "--wait")
		if out := s.Attach(t, "--bridge", "br-late", "--uplink", "up0", "--wait"); !strings.Contains(out, "waiting for br-late") {
			t.Errorf("attach says: %s", out)
		}
		eq(t, "attached before it is there", s.Status(t).Bridges[0].Attached, false)

		wire, c := s.Router.Capture(t, "r0"), s.Machine(t, "late")
		ip(t, s.NS, "link add br-late type bridge", "addr add 10.77.0.1/24 dev br-late", "link set br-late up")
		t.Cleanup(func() { s.NS.IP(t, "link del br-late") })
		took := lab.Eventually(t, lab.Patience, func() error {
			if n := hooks(t, s)["br-late ingress"]; n != 1 {
				return fmt.Errorf("%d programs on br-late", n)
			}
			return nil
		})
		t.Logf("attached %v after the bridge came up", took.Round(time.Millisecond))
		ip(t, s.NS, "link add late0 type veth peer name eth0 netns "+c.Name, "link set late0 master br-late up")
		t.Cleanup(func() { s.NS.IP(t, "link del late0") })
		ip(t, c, "addr add 10.77.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.77.0.1")
		eq(t, "the first packet, as seen outside", c.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		lab.Eventually(t, lab.Patience, func() error {
			if !s.Status(t).Bridges[0].Attached {
				return fmt.Errorf("status does not show it")
			}
			return nil
		})
		s.Endpoint(t, netip.MustParseAddr("10.77.0.2"))
		eq(t, "as seen outside", c.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		wire.None(t, "a packet with the container's own address", within("10.77.0.0/24"))
	})
}

// G-12: a container that comes while the agent is busy sends its first packets translated, and what it should not get it does not get; with
// --fail-closed it sends and gets nothing until the agent knows it.
func TestFirstPackets(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		known := s.Host.Run(t, "known")
		far := lab.At(lab.RemoteIP, 7000)
		// eager starts a container whose first act is to ask; what is asked of it is done before the agent hears of it.
		eager := func(network, to string) (string, error) {
			return s.TryDocker("run", "--rm", lab.Image, "/bin/probe", "ask", "-net", network, "-timeout", "1s", to)
		}

		t.Run("open", func(t *testing.T) {
			s.Attach(t, docker0()...)
			s.await(t, known)
			wire := s.Router.Capture(t, "r0")
			resume := pause(t, s)
			defer resume()
			for _, network := range []string{"tcp", "udp"} {
				answer, err := eager(network, far)
				if err != nil || !strings.Contains(answer, `"`+lab.HostIP+":") {
					t.Errorf("%s: %v: %s", network, err, answer)
				}
			}
			// What began before the agent knew goes on as it began.
			early := s.Host.Run(t, "early", "-p", "8081:80")
			tcp, udp := early.NS.Dial(t, "tcp", far), early.NS.Dial(t, "udp", far)
			seen := []string{tcp.Ask(t).Client, udp.Ask(t).Client}
			resume()
			s.await(t, early)
			for range 3 {
				eq(t, "tcp, as seen outside", tcp.Ask(t).Client, seen[0])
				eq(t, "udp, as seen outside", udp.Ask(t).Client, seen[1])
			}
			wire.None(t, "a packet with a container's own address", within(lab.BridgeNet))
		})
		t.Run("closed", func(t *testing.T) {
			s.Attach(t, append(docker0(), "--fail-closed")...)
			s.await(t, known)
			eq(t, "status says so", s.Status(t).Bridges[0].FailClosed, true)
			eq(t, "a container that is known", known.NS.Ask(t, "tcp", far).Seen().Addr().String(), lab.HostIP)
			before := s.Scrape(t).Dropped("unknown_container")
			wire := s.Router.Capture(t, "r0")
			resume := pause(t, s)
			defer resume()
			for name, to := range map[string]string{"outside": far, "the host": lab.At(lab.GatewayIP, 7000), "a neighbour": known.At(80)} {
				if answer, err := eager("udp", to); err == nil {
					t.Errorf("unknown to the agent, but %s answers: %s", name, answer)
				}
			}
			late := s.Host.Run(t, "late", "-p", "8080:80")
			s.Remote.Unanswered(t, "udp", lab.At(late.IP.String(), 80))
			s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8080))
			s.NS.Unanswered(t, "udp", late.At(80))
			known.NS.Unanswered(t, "udp", late.At(80))
			wire.None(t, "a container's packet", func(p lab.Packet) bool {
				return !p.Sent && p.IP != nil && p.Destination() == lab.AddrPort(lab.RemoteIP, 7000)
			})
			eq(t, "a container that is known", known.NS.Ask(t, "tcp", far).Seen().Addr().String(), lab.HostIP)
			resume()
			s.await(t, late)
			eq(t, "known by now, in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "late")
			eq(t, "known by now, out", late.NS.Ask(t, "tcp", far).Seen().Addr().String(), lab.HostIP)
			if got := s.Scrape(t).Dropped("unknown_container") - before; got < 5 {
				t.Errorf("%g packets are counted as dropped for this", got)
			}
		})
		t.Run("open again", func(t *testing.T) {
			s.Attach(t, docker0()...)
			eq(t, "status says so", s.Status(t).Bridges[0].FailClosed, false)
		})
	})
}
