package e2e

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// E-19: one socket of a container shows the same port to two machines, so that each can tell the other of it; what neither was sent to does
// not come in.
func TestSocketWithTwoPeers(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "one", lab.At(lab.RemoteIP, 7000))
		s.Remote.Serve(t, "two", lab.At(lab.RemoteIP2, 7001))
		conn := c.NS.ListenUDP(t, "0.0.0.0:45123")
		for _, to := range []string{lab.At(lab.RemoteIP, 7000), lab.At(lab.RemoteIP2, 7001)} {
			answer, err := lab.AskFrom(conn, to, lab.Patience)
			if err != nil {
				t.Fatal(err)
			}
			eq(t, "what "+to+" sees", answer.Seen(), lab.AddrPort(lab.HostIP, 45123))
		}
		// The same machine from another port is somebody else.
		stranger := s.Remote.ListenUDP(t, lab.At(lab.RemoteIP, 7999))
		if _, err := stranger.WriteToUDPAddrPort([]byte("hello"), lab.AddrPort(lab.HostIP, 45123)); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, from, err := conn.ReadFromUDPAddrPort(make([]byte, 64)); err == nil {
			t.Errorf("%d bytes from %s, which was never written to", n, from)
		}
	})
}

// F-4: a flow that is never answered keeps its port for as long as packets go; one that has gone quiet is forgotten meanwhile.
func TestOneWay(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.NS.SetSysctl(t, "net/netfilter/nf_conntrack_udp_timeout", "2")
		s.Attach(t, docker0()...)
		s.Await(t, c)
		sink := s.Remote.ListenUDP(t, lab.At(lab.RemoteIP, 5140))
		quiet, steady := c.NS.ListenUDP(t, "0.0.0.0:40001"), c.NS.ListenUDP(t, "0.0.0.0:40002")
		say := func(conn *net.UDPConn) string {
			t.Helper()
			if _, err := conn.WriteToUDPAddrPort([]byte("line"), lab.AddrPort(lab.RemoteIP, 5140)); err != nil {
				t.Fatal(err)
			}
			sink.SetReadDeadline(time.Now().Add(lab.Patience))
			_, from, err := sink.ReadFromUDPAddrPort(make([]byte, 64))
			if err != nil {
				t.Fatal(err)
			}
			return from.String()
		}
		say(quiet)
		port := say(steady)
		lab.Eventually(t, 4*lab.Patience, func() error {
			eq(t, "the steady flow's port", say(steady), port)
			for _, f := range s.Flows(t, "--proto", "udp") {
				if f.Original.SourcePort == 40001 {
					return fmt.Errorf("the quiet flow is still there")
				}
			}
			return nil
		})
		eq(t, "the steady flow's port", say(steady), port)
	})
}

// H-17: a host's connected socket whose container has gone is told so; it does not send to nobody for ever.
func TestBackendGoes(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80/udp")
		s.Await(t, c)
		s.Remote.Serve(t, "far", ":7000")
		client := s.NS.Dial(t, "udp", lab.At(lab.HostIP, 8080), lab.Within(time.Second))
		client.Ask(t)
		other := s.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000))
		other.Ask(t)
		c.Stop(t)
		lab.Eventually(t, lab.Patience, func() error {
			_, err := client.TryAsk()
			switch {
			case err == nil:
				return fmt.Errorf("somebody answers")
			case strings.Contains(err.Error(), "connection abort"), strings.Contains(err.Error(), "destination address required"):
				return nil // the second is what a socket says that was ended and asked to send again
			}
			return err
		})
		other.Ask(t) // of nobody's container
		c.Start(t)
		s.Await(t, c)
		s.NS.Ask(t, "udp", lab.At(lab.HostIP, 8080))
	})
}

// H-19: a published port of a container that has IPv4 alone is reached over IPv6 from the host itself, by ::1, but not from outside: that
// would take a proxy, which Docker's own is and ebpfnet alone has none.
func TestIPv6HostAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Await(t, c)
		for ns, words := range map[*lab.Netns]string{s.NS: "addr add fd00:77::1/64 dev up0", s.Router: "addr add fd00:77::2/64 dev r0"} {
			ns.IP(t, "-6 "+words)
			t.Cleanup(func() { ns.IP(t, "-6 "+strings.Replace(words, "addr add", "addr del", 1)) })
		}
		s.NS.Ask(t, "tcp", "[::1]:8080")
		if s.World == lab.Native {
			s.Router.Unanswered(t, "tcp", "[fd00:77::1]:8080")
		} else {
			s.Router.Ask(t, "tcp", "[fd00:77::1]:8080")
		}
	})
}

// udpSegment is UDP_SEGMENT (linux/udp.h): one write becomes datagrams of that size.
const udpSegment = 103

// D-6: datagrams that the sender's kernel cuts up late, and that a receiver's puts together in a list, pass each translation one by one and
// unharmed, and the kernel has nothing to complain of.
func TestDatagramTrains(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		complaints := watchKernel(t)
		c := s.Run(t, "c", "-p", "9000:9000/udp")
		s.Attach(t, docker0()...)
		s.Await(t, c)
		for _, feature := range []string{"gro", "rx-gro-list", "rx-udp-gro-forwarding"} {
			s.NS.Run(t, "ethtool", "-K", "up0", feature, "on")
		}
		train := func(t *testing.T, from, to *lab.Netns, bind, dial string) {
			t.Helper()
			const size, count = 1200, 20
			sink := to.ListenUDP(t, bind)
			out := from.ListenUDP(t, "0.0.0.0:0")
			raw, err := out.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var serr error
			if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, udpSegment, size) }); err != nil || serr != nil {
				t.Fatal(err, serr)
			}
			addr, err := net.ResolveUDPAddr("udp4", dial)
			if err != nil {
				t.Fatal(err)
			}
			for turn := range byte(10) {
				var all []byte
				for i := range byte(count) {
					all = append(all, bytes.Repeat([]byte{turn, i}, size/2)...)
				}
				if _, err := out.WriteToUDP(all, addr); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 64<<10)
				for i := range byte(count) {
					sink.SetReadDeadline(time.Now().Add(lab.Patience))
					n, _, err := sink.ReadFromUDPAddrPort(buf)
					if err != nil {
						t.Fatalf("train %d, datagram %d: %v", turn, i, err)
					}
					if want := bytes.Repeat([]byte{turn, i}, size/2); !bytes.Equal(buf[:n], want) {
						t.Fatalf("train %d, datagram %d: %d bytes beginning with %v", turn, i, n, buf[:min(n, 4)])
					}
				}
			}
		}
		t.Run("in", func(t *testing.T) { train(t, s.Remote, c.NS, "0.0.0.0:9000", lab.At(lab.HostIP, 9000)) })
		t.Run("out", func(t *testing.T) { train(t, c.NS, s.Remote, lab.At(lab.RemoteIP, 9001), lab.At(lab.RemoteIP, 9001)) })
		complaints(t)
	})
}

// D-10: a receiver that puts no segments together gets them in the size that its device takes, and all of them.
func TestReceiverWithoutGRO(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Await(t, c)
		c.NS.Run(t, "ethtool", "-K", "eth0", "gro", "off", "gso", "off", "tso", "off")
		s.Remote.Run(t, "ethtool", "-K", "far", "gro", "off")
		s.NS.Run(t, "ethtool", "-K", "up0", "gro", "off")
		s.Router.Run(t, "ethtool", "-K", "r0", "tso", "off", "gso", "off")
		t.Cleanup(func() {
			s.Router.Run(t, "ethtool", "-K", "r0", "tso", "on", "gso", "on")
		})
		const size = 3 << 20
		client := s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080))
		if got, err := client.Sink(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("there: %q %v", got, err)
		}
		if got, err := client.Source(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("back: %q %v", got, err)
		}
	})
}

// D-3: frames whose sum the device below has taken (CHECKSUM_COMPLETE), as a kernel's VXLAN device does that has checked the outer sum, keep a
// right one through translation: the kernel finds no "hw csum failure".
func TestSummedFrames(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		complaints := watchKernel(t)
		c := s.Run(t, "c", "-p", "8080:80", "-p", "8080:80/udp")
		s.NS.Offload(t, "up0", false)
		s.Router.Offload(t, "r0", false)
		for ns, e := range map[*lab.Netns]struct{ local, remote, dev, addr string }{
			s.NS: {lab.HostIP, lab.RouterIP, "up0", "10.99.0.1/24"}, s.Router: {lab.RouterIP, lab.HostIP, "r0", "10.99.0.2/24"},
		} {
			ns.IP(t, fmt.Sprintf("link add vx0 type vxlan id 7 local %s remote %s dev %s dstport 4790 udpcsum", e.local, e.remote, e.dev))
			ns.IP(t, "addr add "+e.addr+" dev vx0")
			ns.IP(t, "link set vx0 up")
		}
		s.Attach(t, "--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "vx0")
		s.Await(t, c)
		s.Router.Serve(t, "behind", "10.99.0.2:7000")
		both(t, func(t *testing.T, network string) {
			for _, size := range []int{0, 501, 1300} {
				eq(t, "client", s.Router.Ask(t, network, "10.99.0.1:8080", lab.Size(size)).Seen().Addr().String(), "10.99.0.2")
				c.NS.Ask(t, network, "10.99.0.2:7000", lab.Size(size))
			}
		})
		c.NS.Ping(t, 77).Ping(t, "10.99.0.2", []byte("sum"))
		complaints(t)
	})
}
