package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// busy is a host with load in every direction: in through published ports, out through masquerade, between containers, from the host.
type busy struct {
	site
	web, n *lab.Container
	*lab.Load
	usual time.Duration // the longest exchange while nothing happens: what the machine itself needs
}

// newBusy starts containers and their load, tcp connections and udp sockets in all, on a host with the product attached or not. Some of the sockets of two
// containers have the same port and the same peer, so that whoever translates has to change one of each two.
func newBusy(t *testing.T, s site, attached bool, tcp, udp int) *busy {
	t.Helper()
	b := &busy{site: s}
	b.web, b.n = s.Host.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Host.Run(t, "n")
	if attached {
		s.await(t, b.web)
		s.await(t, b.n)
	}
	s.Remote.Serve(t, "far", ":7000")
	b.start(t, 20000, tcp, udp)
	return b
}

// again puts one more load on the same host.
func (b *busy) again(t *testing.T, ports, tcp, udp int) *busy {
	t.Helper()
	more := &busy{site: b.site, web: b.web, n: b.n}
	more.start(t, ports, tcp, udp)
	return more
}

// start begins a load. Who goes out does so from ports, and the next.
func (b *busy) start(t *testing.T, ports, tcp, udp int) {
	t.Helper()
	var lines []lab.Line
	for _, p := range []struct {
		network string
		count   int
	}{{"tcp", tcp}, {"udp", udp}} {
		quarter := p.count / 4
		lines = append(lines,
			lab.Line{Name: "in", From: b.Remote, Network: p.network, To: lab.At(lab.HostIP, 8080), Server: "web", Count: quarter},
			lab.Line{Name: "out", From: b.n.NS, Network: p.network, To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: quarter - quarter/4, Ports: ports},
			lab.Line{Name: "out too", From: b.web.NS, Network: p.network, To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: quarter / 4, Ports: ports},
			lab.Line{Name: "local", From: b.n.NS, Network: p.network, To: b.web.At(80), Server: "web", Count: quarter},
			lab.Line{Name: "host", From: b.NS, Network: p.network, To: b.web.At(80), Server: "web", Count: quarter})
	}
	b.Load = lab.StartLoad(t, 0, lines...)
	r := b.Load.Round(t)
	b.usual = r.Longest
	b.judge(t, "before", r)
	if t.Failed() {
		b.Report(t)
		t.FailNow()
	}
}

// during has something happen under the load, and judges what became of the connections.
func (b *busy) during(t *testing.T, what string, fn func()) {
	t.Helper()
	b.usual = max(b.usual, b.Load.Round(t).Longest)
	fn()
	b.judge(t, what, b.Load.Round(t))
}

// judge fails the test where a connection has broken or has been mixed up with another, and where an exchange took more than a second longer
// than they do while nothing happens.
func (b *busy) judge(t *testing.T, when string, r lab.Round) {
	t.Helper()
	t.Logf("%s: %v", when, r)
	if err := r.Err(); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if r.Longest > b.usual+time.Second {
		t.Errorf("%s: an exchange took %v (%s); while nothing happens, %v", when, r.Longest, r.Slowest, b.usual)
	}
}

// K-2, F-10: the agent is killed under load, stays away, comes back, again and again: the connections do not notice, and new ones begin while
// it is away.
func TestAgentDiesUnderLoad(t *testing.T) {
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			h := suite.NewHost(t, w)
			s := site{h, h.Instance(t)}
			s.Attach(t, docker0()...)
			b := newBusy(t, s, true, 200, 80)
			restarts := map[lab.World]int{lab.Default: 2, lab.Native: 8}
			for range restarts[w] {
				b.during(t, "killed", func() { killAgent(t, s, true) })
				eq(t, "new, in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
				eq(t, "new, out", b.n.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
				b.during(t, "back", func() { s.Attach(t, docker0()...) })
			}
		})
	}
}

// F-11, K-12, K-11: attaching and detaching over Docker's own rules, under 1,000 TCP connections and 200 UDP sockets: those that were there
// before are taken over with the kernel's translation, those that began with the product are handed over with its own. Firewalls such as ufw
// and firewalld drop what the kernel calls invalid, and the kernel sees one direction only, or neither, of what the product carries.
func TestAttachUnderLoad(t *testing.T) {
	for _, tt := range []struct {
		name     string
		rules    []string
		mode     string
		tcp, udp int
	}{
		{name: "docker's rules", mode: "auto", tcp: 1000, udp: 200},
		{name: "invalid dropped", mode: "native", tcp: 200, udp: 80, rules: []string{
			"-I FORWARD -m conntrack --ctstate INVALID -j DROP",
			"-I INPUT -m conntrack --ctstate INVALID -j DROP",
			"-I OUTPUT -m conntrack --ctstate INVALID -j DROP",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := suite.NewHost(t, lab.Default)
			s := site{h, h.Instance(t)}
			for _, rule := range tt.rules {
				s.NS.Run(t, "iptables", strings.Fields(rule)...)
			}
			b := newBusy(t, s, false, tt.tcp, tt.udp)
			attach := append(docker0(), "--mode", tt.mode)
			b.during(t, "attach", func() { s.Attach(t, attach...) })
			s.await(t, b.web)
			s.carried(t, "in", tt.udp/4, func() {
				s.carried(t, "out", tt.udp/4, func() { b.during(t, "attached", func() {}) })
			})
			later := b.again(t, 30000, tt.tcp/2, tt.udp/2)
			b.during(t, "detach", func() { s.Ebpfnet(t, "detach", "--all", "--yes") })
			later.during(t, "detached, begun while attached", func() {})
			b.during(t, "attach again", func() { s.Attach(t, attach...) })
			later.during(t, "attached again, begun while attached", func() {})
			b.during(t, "detach one", func() { s.Ebpfnet(t, "detach", "--bridge", lab.Bridge, "--yes") })
			later.during(t, "detached one, begun while attached", func() {})
			b.during(t, "attach for the last time", func() { s.Attach(t, attach...) })
			killAgent(t, s, true)
			b.during(t, "detach without an agent", func() { s.Ebpfnet(t, "detach", "--all", "--yes") })
			later.during(t, "detached without an agent, begun while attached", func() {})
		})
	}
}

// Where nobody else carries the traffic, detach says how many flows it cuts, of which kind, and asks on a terminal; a script is not asked.
func TestDetachSays(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t, lab.Native)
	s := site{h, h.Instance(t)}
	s.Attach(t, docker0()...)
	web, n := s.Run(t, "web", "-p", "8080:80"), s.Run(t, "n")
	s.Remote.Serve(t, "far", ":7000")
	for range 2 {
		s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)).Ask(t)
	}
	for range 3 {
		n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)).Ask(t)
	}
	n.NS.Dial(t, "tcp", lab.At(lab.HostIP, 8080)).Ask(t)
	n.NS.Dial(t, "tcp", web.At(80)).Ask(t)
	const said = "6 flows (2 in, 3 out, 1 between containers) of 2 containers on docker0"

	ask := func(answer string, code int) string {
		t.Helper()
		cmd := s.Command(t.Context(), "detach", "--bridge", lab.Bridge)
		p := lab.StartOnTerminal(t, cmd, 24, 200)
		lab.Eventually(t, 20*time.Second, func() error {
			if drawn := p.Drawn(); !strings.Contains(drawn, "This cuts "+said) || !strings.Contains(drawn, "[y/N]") {
				return fmt.Errorf("it says %q", drawn)
			}
			return nil
		})
		p.Type(t, answer+"\n")
		_ = cmd.Wait()
		eq(t, "exit code after "+answer, cmd.ProcessState.ExitCode(), code)
		return p.Drawn()
	}
	ask("n", 1)
	eq(t, "bridges after n", len(s.Status(t).Bridges), 1)
	ask("y", 0)
	eq(t, "bridges after y", len(s.Status(t).Bridges), 0)
	s.Attach(t, docker0()...)
	s.await(t, web)
	s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)).Ask(t)
	if out := s.Ebpfnet(t, "detach", "--all"); !strings.Contains(out, "cut ") || !strings.Contains(out, "1 in") {
		t.Errorf("a script is told %q", out)
	}
}
