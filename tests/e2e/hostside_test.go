package e2e

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"golang.org/x/sys/unix"
	"syscall"
)

// H-2: the host reaches a published port by each of its addresses, gets its data, and getpeername says what it dialled.
func TestHostDialsPublished(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		both(t, func(t *testing.T, network string) {
			for _, ip := range []string{"127.0.0.1", "127.1.2.3", lab.HostIP, lab.HostIP1, lab.GatewayIP, "::1"} {
				t.Run(ip, func(t *testing.T) {
					// Ask compares getpeername with what it dialled.
					a := s.NS.Ask(t, network, lab.At(ip, 8080))
					eq(t, "who answers", a.Name, "web")
					eq(t, "what it was dialled at", a.Local, c.At(80))
					if a.Seen().Addr().IsLoopback() {
						t.Errorf("the container sees %v", a.Seen())
					}
				})
			}
			s.NS.Unanswered(t, network, lab.At("127.0.0.1", 8079))
		})
	})
}

// H-3: a container's own loopback is its own, in its namespace and under its control group alike.
func TestLoopbackOfAContainer(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:80")
		c := s.Run(t, "c")
		both(t, func(t *testing.T, network string) {
			c.NS.Unanswered(t, network, lab.At("127.0.0.1", 8080))
			if _, err := s.TryDocker("exec", c.ID, "/bin/probe", "ask", "-net", network, "127.0.0.1:8080"); err == nil {
				t.Error("a process in the container was answered at its own loopback")
			}
		})
		c.NS.Serve(t, "inside", "127.0.0.1:8080")
		both(t, func(t *testing.T, network string) {
			a := c.NS.Ask(t, network, lab.At("127.0.0.1", 8080))
			eq(t, "who answers", a.Name, "inside")
			eq(t, "whom it sees", a.Seen().Addr().String(), "127.0.0.1")
		})
	})
}

// H-15: a socket of the host that is bound to the loopback address reaches the container, which never sees that address.
func TestHostBoundToLoopback(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		inside := c.NS.Capture(t, "eth0")
		both(t, func(t *testing.T, network string) {
			for _, at := range []string{"127.0.0.1", lab.HostIP} {
				t.Run(at, func(t *testing.T) {
					from := lab.At("127.0.0.1", 0)
					if at != "127.0.0.1" {
						from = lab.At(at, 0)
					}
					client := s.NS.Dial(t, network, lab.At(at, 8080), lab.From(from))
					for range 3 {
						eq(t, "who answers", client.Ask(t).Name, "web")
					}
				})
			}
			s.NS.Ask(t, "udp", lab.At("127.0.0.1", 8080), lab.From("127.0.0.1:0"), lab.Unconnected())
		})
		inside.None(t, "a loopback address", func(p lab.Packet) bool {
			return p.IP != nil && (p.Source().Addr().IsLoopback() || p.Destination().Addr().IsLoopback())
		})
	})
}

// H-16: an unconnected UDP socket of the host hears its answers from the address that it sent to; so does one that sends to several.
func TestHostUnconnected(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "web", "-p", "8080:80/udp")
		other := s.Run(t, "other", "-p", "8081:80/udp")
		for _, ip := range []string{"127.0.0.1", lab.HostIP, lab.GatewayIP} {
			// Unconnected makes an answer from elsewhere an error.
			a := s.NS.Ask(t, "udp", lab.At(ip, 8080), lab.Unconnected())
			eq(t, "who answers at "+ip, a.Name, "web")
		}
		conn := s.NS.ListenUDP(t, ":0")
		for range 2 {
			for to, name := range map[string]string{
				lab.At("127.0.0.1", 8080): "web", lab.At("127.0.0.1", 8081): "other", lab.At(lab.HostIP, 8080): "web", other.At(80): "other",
			} {
				a, err := lab.AskFrom(conn, to, lab.Patience)
				if err != nil {
					t.Fatalf("%s: %v", to, err)
				}
				eq(t, "who answers at "+to, a.Name, name)
				eq(t, "from where", a.From.String(), to)
			}
		}
	})
}

// A connected socket that dials anew, as resolvers do, leaves nothing of its first target behind (H-2, H-16).
func TestHostDialsAgain(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "web", "-p", "8080:80/udp")
		other := s.Run(t, "other")
		client := s.NS.Dial(t, "udp", lab.At("127.0.0.1", 8080))
		eq(t, "first", client.Ask(t).Name, "web")
		raw, err := client.Conn().(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var again error
		if err := raw.Control(func(fd uintptr) {
			again = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: other.IP.As4(), Port: 80})
		}); err != nil || again != nil {
			t.Fatal(err, again)
		}
		a := client.Ask(t)
		eq(t, "second", a.Name, "other")
		eq(t, "getpeername", a.From.String(), other.At(80))
	})
}
