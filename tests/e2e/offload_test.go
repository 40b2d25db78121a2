package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// ruler is a firewall that somebody other than Docker has put up.
type ruler struct {
	name string
	up   []string // commands; nft's in one word behind its name
	say  string   // what status has to name
}

// rulers are the firewalls that administrators have, each with the same idea: the remote machine reaches 8080 and not 8081, and the container n
// reaches the remote machine's 7000 and not its 7001.
func rulers() []ruler {
	const accepted = `ct state established,related accept ; `
	return []ruler{
		{"DOCKER-USER", []string{
			"iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8081 -j DROP", "iptables -I DOCKER-USER -p udp -m conntrack --ctorigdstport 8081 -j DROP",
			"iptables -I DOCKER-USER -p tcp --dport 7001 -j REJECT", "iptables -I DOCKER-USER -p udp --dport 7001 -j DROP",
		}, "DOCKER-USER"},
		{"nft, policy drop", []string{
			"nft add table inet guard ; add chain inet guard way { type filter hook forward priority 10 ; policy drop ; } ; " +
				"add rule inet guard way " + accepted + "add rule inet guard way meta l4proto tcp ct original proto-dst 8080 accept ; " +
				"add rule inet guard way meta l4proto udp ct original proto-dst 8080 accept ; " +
				"add rule inet guard way meta l4proto { tcp, udp } th dport 7000 accept",
		}, "guard"},
		{"as ufw does it", []string{
			"iptables -N ufw-before-forward", "iptables -N ufw-user-forward", "iptables -I FORWARD -j ufw-before-forward",
			"iptables -A ufw-before-forward -m conntrack --ctstate INVALID -j DROP",
			"iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"iptables -A ufw-before-forward -j ufw-user-forward",
			"iptables -A ufw-user-forward -m conntrack --ctorigdstport 8081 -j DROP",
			"iptables -A ufw-user-forward -p tcp --dport 7001 -j REJECT", "iptables -A ufw-user-forward -p udp --dport 7001 -j DROP",
		}, "ufw-before-forward"},
	}
}

// command runs one as the host's administrator. What is behind nft is one word.
func (s site) command(t testing.TB, line string) string {
	t.Helper()
	tool, rest, _ := strings.Cut(line, " ")
	if tool == "nft" {
		return s.NS.Run(t, tool, rest)
	}
	return s.NS.Run(t, tool, words(rest)...)
}

// countForward has the kernel count what it forwards, in front of all rules.
func (s site) countForward(t testing.TB) {
	t.Helper()
	s.command(t, "nft add table inet count ; add chain inet count way { type filter hook forward priority -400 ; } ; add counter inet count seen ; "+
		"add rule inet count way counter name seen")
}

// forwarded is how many packets the kernel has forwarded since countForward.
func (s site) forwarded(t testing.TB) int {
	t.Helper()
	var out struct {
		NFTables []struct {
			Counter *struct{ Packets int }
		}
	}
	if err := json.Unmarshal([]byte(s.NS.Run(t, "nft", "-j", "list counter inet count seen")), &out); err != nil {
		t.Fatal(err)
	}
	for _, o := range out.NFTables {
		if o.Counter != nil {
			return o.Counter.Packets
		}
	}
	t.Fatal("no counter")
	return 0
}

// mode waits until docker0 is in a mode, and gives the reason.
func (s site) awaitMode(t testing.TB, mode string) (reason string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, func() error {
		b := s.Status(t).Bridges[0]
		if b.Mode != mode {
			return fmt.Errorf("docker0 is in mode %s (%s), want %s", b.Mode, b.Reason, mode)
		}
		reason = b.Reason
		return nil
	})
	return reason
}

// offloadHost is a host with what rulers speak of.
func offloadHost(t *testing.T) (s site, web, n *lab.Container) {
	h := suite.NewHost(t, lab.Default)
	s = site{h, h.Instance(t)}
	t.Cleanup(func() {
		if t.Failed() {
			s.Report(t)
		}
	})
	s.Remote.Serve(t, "far", ":7000")
	s.Remote.Serve(t, "far", ":7001")
	web = h.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:81", "-p", "8081:81/udp")
	return s, web, h.Run(t, "n")
}

// offloadLoad is connections in both directions that the rulers let through.
func offloadLoad(t *testing.T, s site, n *lab.Container, count int) *lab.Load {
	return lab.StartLoad(t, 20*time.Millisecond,
		lab.Line{Name: "in", From: s.Remote, Network: "tcp", To: lab.At(lab.HostIP, 8080), Server: "web", Count: count},
		lab.Line{Name: "in", From: s.Remote, Network: "udp", To: lab.At(lab.HostIP, 8080), Server: "web", Count: count},
		lab.Line{Name: "out", From: n.NS, Network: "tcp", To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: count},
		lab.Line{Name: "out", From: n.NS, Network: "udp", To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: count})
}

// asked is what the kernel forwards of up to some twenty flows that are carried, while a test takes its time: in two seconds a packet of each
// direction, and a few that were behind it.
func asked(since time.Time) int { return 40 * (1 + int(time.Since(since)/time.Second)) }

// relieved waits until the kernel has next to nothing to forward any more of a load that goes on.
func (s site) relieved(t *testing.T, load *lab.Load) {
	t.Helper()
	lab.Eventually(t, 60*time.Second, func() error {
		before, began := s.forwarded(t), time.Now()
		exchanges := 0
		for range 20 {
			r := load.Round(t)
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			exchanges += r.Exchanges
		}
		// An exchange is two packets, and of TCP some more.
		if got := s.forwarded(t) - before; got > exchanges/5+asked(began) {
			return fmt.Errorf("the kernel has forwarded %d packets of %d exchanges", got, exchanges)
		}
		return nil
	})
}

// K-11, K-12: under a firewall of somebody else's the same is let through as without ebpfnet, and ebpfnet carries what is established.
func TestOffload(t *testing.T) {
	t.Parallel()
	for _, r := range rulers() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s, _, n := offloadHost(t)
			for _, line := range r.up {
				s.command(t, line)
			}
			s.countForward(t)
			decisions := func(when string) {
				t.Helper()
				both(t, func(t *testing.T, network string) {
					eq(t, when+": who answers at 8080", s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
					eq(t, when+": who answers at 7000", n.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Name, "far")
					s.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8081))
					n.NS.Unanswered(t, network, lab.At(lab.RemoteIP, 7001))
				})
			}
			decisions("before")
			s.Attach(t, docker0()...)
			if reason := s.awaitMode(t, "offload"); !strings.Contains(reason, r.say) {
				t.Errorf("the reason is %q, and does not name %s", reason, r.say)
			}
			decisions("attached")
			load := offloadLoad(t, s, n, 3)
			s.relieved(t, load)
			decisions("carried")
			before := s.Scrape(t)
			for range 20 {
				load.Round(t)
			}
			after := s.Scrape(t)
			for _, path := range []string{"in", "out"} {
				if got := after.Forwarded(path) - before.Forwarded(path); got < 40 {
					t.Errorf("%g packets were delivered by path %s", got, path)
				}
			}
			const bytes = 64 << 20
			for name, c := range map[string]*lab.Client{
				"in": s.talk(t, s.Remote, "tcp", lab.At(lab.HostIP, 8080)), "out": s.talk(t, n.NS, "tcp", lab.At(lab.RemoteIP, 7000)),
			} {
				kernel := s.forwarded(t)
				if got, err := c.Sink(bytes, 10*lab.Patience); err != nil || got != lab.BulkDigest(bytes) {
					t.Errorf("%s, there: %v", name, err)
				}
				if got, err := c.Source(bytes, 10*lab.Patience); err != nil || got != lab.BulkDigest(bytes) {
					t.Errorf("%s, back: %v", name, err)
				}
				t.Logf("%s: the kernel has forwarded %d packets of %d bytes", name, s.forwarded(t)-kernel, 2*bytes)
				c.Close()
			}
			load.Stop()
			// K-12: the kernel has seen each of them end, and thought ill of none of their packets.
			lab.Eventually(t, 30*time.Second, func() error {
				if left := s.NS.Run(t, "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED"); strings.Contains(left, "ASSURED") {
					return fmt.Errorf("still established: %s", left)
				}
				for _, f := range s.Flows(t) {
					if f.Offloaded && f.Proto == "tcp" {
						return fmt.Errorf("still carried: %+v", f)
					}
				}
				return nil
			})
			for line := range strings.Lines(s.invalid(t)) {
				if strings.Contains(line, "INVALID") && words(line)[0] != "0" {
					t.Errorf("packets are invalid to the kernel: %s", line)
				}
			}
		})
	}
}

// invalid shows the rules of a chain as ufw makes it, with what they have counted; nothing where there is none.
func (s site) invalid(t testing.TB) string {
	out, err := s.NS.TryRun("iptables", "-nvxL", "ufw-before-forward")
	if err != nil {
		return ""
	}
	return out
}

// stalled waits until a load's connections are answered no more.
func stalled(t *testing.T, what string, within time.Duration, ask func() error) {
	t.Helper()
	lab.Eventually(t, within, func() error {
		if err := ask(); err == nil {
			return fmt.Errorf("%s is still answered", what)
		}
		return nil
	})
}

// talk is a connection that is asked often enough to be carried.
func (s site) talk(t *testing.T, from *lab.Netns, network, to string) *lab.Client {
	t.Helper()
	c := from.Dial(t, network, to)
	// The kernel calls a UDP flow assured after two seconds.
	s.awaitCarried(t, c)
	return c
}

// awaitCarried asks until the kernel has nothing to forward of it any more.
func (s site) awaitCarried(t *testing.T, c *lab.Client) {
	t.Helper()
	lab.Eventually(t, 60*time.Second, func() error {
		before, began := s.forwarded(t), time.Now()
		const questions = 200
		for range questions {
			if _, err := c.TryAsk(); err != nil {
				t.Fatalf("%s: %v", c.Conn().LocalAddr(), err)
			}
		}
		if got := s.forwarded(t) - before; got > questions/2+asked(began) {
			return fmt.Errorf("the kernel has forwarded %d packets of %d questions", got, questions)
		}
		return nil
	})
}

// offloaded are the flows that are carried for the kernel.
func (s site) offloaded(t testing.TB) (n int) {
	t.Helper()
	for _, f := range s.Flows(t) {
		if f.Offloaded {
			n++
		}
	}
	return n
}

// K-11: a rule that comes later stops an established flow, whoever tells of it: nf_tables, nobody, or nobody to an agent that is dead. What the
// kernel forgets is forgotten, and what it would forget without packets it keeps.
func TestOffloadChanges(t *testing.T) {
	t.Parallel()
	s, _, n := offloadHost(t)
	s.countForward(t)
	s.command(t, "nft add table inet guard ; add set inet guard gone { type ipv4_addr ; } ; add set inet guard let { type ipv4_addr ; timeout 1h ; } ; "+
		"add chain inet guard way { type filter hook forward priority 10 ; } ; add rule inet guard way ip saddr @gone drop")
	s.NS.SetSysctl(t, "net/netfilter/nf_conntrack_udp_timeout_stream", "5")
	s.Attach(t, docker0()...)
	s.awaitMode(t, "offload")
	whole := t
	in, out := s.talk(t, s.Remote, "udp", lab.At(lab.HostIP, 8080)), s.talk(t, n.NS, "tcp", lab.At(lab.RemoteIP, 7000))
	if got := s.offloaded(t); got != 2 {
		t.Errorf("%d flows are offloaded, want 2", got)
	}
	asked := 0
	ask := func(c *lab.Client) func() error {
		return func() error {
			asked++
			_, err := c.Client.Ask(fmt.Sprintf("question-%d", asked), 2*lab.Doubt)
			return err
		}
	}
	again := func(c *lab.Client) {
		t.Helper()
		lab.Eventually(t, 30*time.Second, ask(c))
		s.awaitCarried(t, c)
	}

	t.Run("entry kept alive", func(t *testing.T) {
		entry := func() string {
			for line := range strings.Lines(s.NS.Run(t, "conntrack", "-L", "-p", "udp", "--orig-port-dst", "8080", "-o", "id")) {
				if _, id, ok := strings.Cut(line, "id="); ok {
					return strings.TrimSpace(id)
				}
			}
			return "none"
		}
		before := entry()
		for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline); {
			in.Ask(t)
		}
		if after := entry(); before == "none" || after != before {
			t.Errorf("the kernel's entry is %s, and was %s", after, before)
		}
	})
	t.Run("forgotten with the kernel's", func(t *testing.T) {
		s.NS.Run(t, "conntrack", "-D", "-p", "udp", "--orig-port-dst", "8080")
		lab.Eventually(t, lab.Patience, func() error {
			if got := s.offloaded(t); got != 1 {
				return fmt.Errorf("%d flows are offloaded, want 1", got)
			}
			return nil
		})
		again(in)
	})
	t.Run("a rule", func(t *testing.T) {
		s.command(t, "nft add element inet guard gone { "+lab.RemoteIP+" , "+n.IP.String()+" }")
		// Answers to what went before may be on their way.
		stalled(t, "in", lab.Patience, ask(in))
		stalled(t, "out", lab.Patience, ask(out))
		for range 3 {
			if ask(in)() == nil {
				t.Error("in is answered")
			}
		}
		s.command(t, "nft flush set inet guard gone")
		again(in)
		out.Close()
		out = s.talk(whole, n.NS, "tcp", lab.At(lab.RemoteIP, 7000))
	})
	t.Run("a rule by time, of which nobody tells", func(t *testing.T) {
		s.command(t, "nft add element inet guard let { "+lab.RemoteIP+" timeout 7s } ; add rule inet guard way udp dport 80 ip saddr != @let drop")
		again(in)
		began := time.Now()
		stalled(t, "in", 30*time.Second, ask(in))
		t.Logf("stopped %v after it was carried", time.Since(began).Round(100*time.Millisecond))
		s.command(t, "nft flush chain inet guard way ; add rule inet guard way ip saddr @gone drop")
		again(in)
	})
	t.Run("a rule, and no agent", func(t *testing.T) {
		killAgent(t, s, true)
		eq(t, "mode, as it was left", s.Status(t).Mode, "offload")
		s.command(t, "nft add element inet guard gone { "+lab.RemoteIP+" }")
		stalled(t, "in", 10*time.Second, ask(in))
		s.command(t, "nft flush set inet guard gone")
		lab.Eventually(t, 30*time.Second, ask(in))
		s.Attach(t, docker0()...)
		again(in)
	})
	t.Run("publish", func(t *testing.T) {
		o := s.Try(t, "publish", "9000:80", n.IP.String())
		eq(t, "exit code", o.Code, 1)
		oneLine(t, o, "mode offload", "docker run -p")
	})
	t.Run("detach", func(t *testing.T) {
		s.Ebpfnet(t, "detach", "--all", "--yes")
		in.Ask(t)
		out.Ask(t)
	})
}

// K-11: a bridge in mode auto follows the rules while it is in use, there and back, and breaks nothing that they let through.
func TestOffloadSwitches(t *testing.T) {
	t.Parallel()
	s, _, n := offloadHost(t)
	s.Attach(t, docker0()...)
	s.awaitMode(t, "native")
	load := offloadLoad(t, s, n, 5)
	good := func(when string) {
		t.Helper()
		r := load.Round(t)
		t.Logf("%s: %v", when, r)
		if err := r.Err(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	good("native")
	s.countForward(t) // a rule in the forward hook
	s.awaitMode(t, "offload")
	good("offload")
	s.relieved(t, load)
	s.command(t, "nft delete table inet count")
	s.awaitMode(t, "native")
	good("native again")
	s.countForward(t)
	s.awaitMode(t, "offload")
	s.relieved(t, load)
	eq(t, "mode", s.Status(t).Mode, "offload")
	s.Ebpfnet(t, "detach", "--all", "--yes")
	good("detached")
	load.Stop()
}
