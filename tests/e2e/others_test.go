package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// stranger is somebody else's TCX program on a device: it counts packets and leaves them alone.
type stranger struct {
	count *ebpf.Map
	link  link.Link
}

func newStranger(t *testing.T, s site, dev string, at ebpf.AttachType, anchor link.Anchor) *stranger {
	t.Helper()
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { count.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: counting(count, -1)}) // TCX_NEXT
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	f := &stranger{count: count}
	index := s.NS.Device(t, dev).Index
	err = s.NS.Do(func() (err error) {
		f.link, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: at, Anchor: anchor})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.link.Close() })
	return f
}

func (f *stranger) packets(t *testing.T) (n uint64) {
	t.Helper()
	if err := f.count.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// runs fails the test where the program has seen fewer packets than that while fn ran.
func (f *stranger) runs(t *testing.T, who string, least uint64, fn func()) {
	t.Helper()
	before := f.packets(t)
	fn()
	if got := f.packets(t) - before; got < least {
		t.Errorf("%s has seen %d packets, want %d or more", who, got, least)
	}
}

// K-3: programs of others on the same hooks run before ours and, for what ours leaves alone, after them; they are there after attaching,
// restarting and detaching as they were. A tool that deletes the device's qdisc does not take ours away.
func TestOthersPrograms(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		if !tcx(t, s) {
			t.Skip("this kernel has no TCX; the loader's tests have filters")
		}
		s.Remote.Serve(t, "far", ":7000")
		web := s.Host.Run(t, "web", "-p", "8080:80")
		first := newStranger(t, s, "up0", ebpf.AttachTCXIngress, link.Head())
		s.NS.Run(t, "tc", "qdisc", "add", "dev", "up0", "clsact")
		s.Attach(t, docker0()...)
		s.await(t, web)
		last := newStranger(t, s, "up0", ebpf.AttachTCXIngress, link.Tail())
		leaving := newStranger(t, s, "up0", ebpf.AttachTCXEgress, link.Tail())
		works := func(when string) {
			t.Helper()
			first.runs(t, when+": the first program, of what is ours", 2, func() {
				eq(t, when+": in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
			})
			leaving.runs(t, when+": the last program on the way out", 1, func() {
				eq(t, when+": out", web.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
			})
			last.runs(t, when+": the last program, of what is the host's", 2, func() {
				eq(t, when+": the host's own", s.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Name, "far")
			})
		}
		works("attached")
		killAgent(t, s, true)
		s.Attach(t, docker0()...)
		works("restarted")
		s.NS.Run(t, "tc", "qdisc", "del", "dev", "up0", "clsact")
		works("without the qdisc")
		s.Ebpfnet(t, "detach", "--all", "--yes")
		last.runs(t, "detached: the last program", 2, func() {
			eq(t, "detached: the host's own", s.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Name, "far")
		})
		eq(t, "programs on up0", hooks(t, s)["up0 ingress"], 2)
	})
}

func tcx(t *testing.T, s site) bool {
	t.Helper()
	index := s.NS.Device(t, "up0").Index
	return s.NS.Do(func() error {
		_, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
		return err
	}) == nil
}

// K-10: netfilter is emptied, by iptables and by nft, as a reload of a firewall does: connections of every direction go on, and new ones begin.
func TestRulesFlushed(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		s.Attach(t, docker0()...)
		k := &soak{site: s, web: s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), n: s.Run(t, "n")}
		k.start(t)
		k.flush(t)
		k.judge(t, "at the end", k.load.Round(t))
		k.fresh(t, "the rules are back")
	})
}

// G-10: whoever has bridged packets go through netfilter has rules for what his containers say to each other. Those rules decide, and what they
// let through is carried, until they do not any more.
func TestBridgedRules(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t, lab.Default)
	s := site{h, h.Instance(t)}
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		t.Fatalf("needs br_netfilter: %v", err)
	}
	h.NS.Run(t, "sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
	web, n, m := h.Run(t, "web"), h.Run(t, "n"), h.Run(t, "m")
	n.NS.Ask(t, "tcp", web.At(80))
	h.NS.Run(t, "iptables", "-I", "DOCKER-USER", "-s", n.IP.String(), "-d", web.IP.String(), "-j", "DROP")
	n.NS.Unanswered(t, "tcp", web.At(80))
	s.countForward(t)
	s.Attach(t, docker0()...)
	s.awaitMode(t, "offload")
	both(t, func(t *testing.T, network string) {
		n.NS.Unanswered(t, network, web.At(80))
		s.carried(t, "local", 50, func() {
			c := s.talk(t, m.NS, network, web.At(80))
			h.NS.Run(t, "iptables", "-I", "DOCKER-USER", "-s", m.IP.String(), "-j", "DROP")
			stalled(t, "a neighbour", 30*time.Second, func() error { _, err := c.Client.Ask("late", 2*lab.Doubt); return err })
			h.NS.Run(t, "iptables", "-D", "DOCKER-USER", "-s", m.IP.String(), "-j", "DROP")
		})
	})
}

// G-14: a mark that a container sets on its packets ends with its namespace, by the datapath as by the bridge.
func TestMarkEndsWithItsNamespace(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		from, to := s.Run(t, "from"), s.Run(t, "to")
		to.NS.Run(t, "iptables", "-A", "INPUT", "-m", "mark", "!", "--mark", "0", "-j", "DROP")
		s.carried(t, "local", 2, func() {
			conn := from.NS.ListenUDP(t, ":0")
			raw, err := conn.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var inner error
			err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 7) })
			if err != nil || inner != nil {
				t.Fatal(err, inner)
			}
			if _, err := lab.AskFrom(conn, to.At(80), lab.Patience); err != nil {
				t.Errorf("with a mark: %v", err)
			}
		})
	})
}

// G-17: with receive offload on a container's device and on the host's end of it, a connection's packets all take one way: next to nothing of it
// arrives out of order. Two processors that work for one sender overtake each other now and then, with the datapath or without.
func TestInOrder(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web, n := s.Run(t, "web", "-p", "8098:80"), s.Run(t, "n")
		e := s.Endpoint(t, web.IP)
		web.NS.Run(t, "ethtool", "-K", "eth0", "gro", "on")
		s.NS.Run(t, "ethtool", "-K", e.Veth, "gro", "on")
		const bytes = 32 << 20
		const few = bytes / (64 << 10) / 10 // of the largest packets that offload makes, a tenth
		for name, c := range map[string]*lab.Client{"in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8098)), "local": n.NS.Dial(t, "tcp", web.At(80))} {
			before := outOfOrder(t, web.NS) + outOfOrder(t, s.Remote) + outOfOrder(t, n.NS)
			if got, err := c.Sink(bytes, 10*lab.Patience); err != nil || got != lab.BulkDigest(bytes) {
				t.Errorf("%s, there: %v", name, err)
			}
			if got, err := c.Source(bytes, 10*lab.Patience); err != nil || got != lab.BulkDigest(bytes) {
				t.Errorf("%s, back: %v", name, err)
			}
			after := outOfOrder(t, web.NS) + outOfOrder(t, s.Remote) + outOfOrder(t, n.NS)
			t.Logf("%s: %d segments out of order", name, after-before)
			if after-before > few {
				t.Errorf("%s: %d segments arrived out of order", name, after-before)
			}
		}
	})
}

// outOfOrder is how many segments a namespace's TCP has put aside because something before them was missing.
func outOfOrder(t *testing.T, n *lab.Netns) (count int) {
	t.Helper()
	lines := strings.Split(n.Run(t, "cat", "/proc/net/netstat"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j, name := range names {
			if name == "TCPOFOQueue" && j < len(values) {
				if _, err := fmt.Sscan(values[j], &count); err != nil {
					t.Fatal(err)
				}
				return count
			}
		}
	}
	t.Fatal("the kernel does not count TCPOFOQueue")
	return 0
}
