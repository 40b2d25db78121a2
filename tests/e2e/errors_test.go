package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// a router beyond the uplink says that a packet is too big. It quotes what it saw, which is translated; the container's socket
// learns the size all the same, for what it sends itself and for what it answers on a published port.
func TestPathMTUBeyondTheUplink(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		s.Router.IP(t, "link set rr mtu 1300")
		s.Remote.IP(t, "link set far mtu 1300")
		t.Cleanup(func() {
			s.Router.IP(t, "link set rr mtu 1500")
			s.Remote.IP(t, "link set far mtu 1500")
		})
		inside := c.NS.Capture(t, "eth0")
		client := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
		client.Ask(t)
		setDontFragment(t, client)
		if _, err := client.Conn().Write(make([]byte, 1400)); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, lab.Patience, func() error {
			if got := pathMTU(t, client); got != 1300 {
				return fmt.Errorf("the container's socket believes in %d", got)
			}
			return nil
		})
		// TCP does not depend on it, since it is told in the handshake, but must go on where it is not: far announces more than fits.
		const size = 1 << 20
		for name, tcp := range map[string]*lab.Client{
			"out": c.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)), "in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
		} {
			if got, err := tcp.Sink(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
				t.Errorf("%s, there: %v", name, err)
			}
			if got, err := tcp.Source(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
				t.Errorf("%s, back: %v", name, err)
			}
		}
		for _, p := range inside.All(func(p lab.Packet) bool { return p.ICMP != nil }) {
			if err := p.Checksums(); err != nil {
				t.Errorf("%v: %v", p, err)
			}
		}
	})
}

// nobody listens. A port-unreachable from outside reaches the container's socket; one from a container reaches the client of its
// published port, as if the host had sent it.
func TestPortUnreachable(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:4444/udp")
		for name, client := range map[string]*lab.Client{
			"from outside":                c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7999), lab.Within(lab.Doubt)),
			"from a container, outside":   s.Remote.Dial(t, "udp", lab.At(lab.HostIP, 8080), lab.Within(lab.Doubt)),
			"from a container, a sibling": c.NS.Dial(t, "udp", lab.At(lab.HostIP, 8080), lab.Within(lab.Doubt)),
		} {
			if _, err := client.TryAsk(); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s: got %v, want connection refused", name, err)
			}
		}
	})
}

// each hop answers a container's traceroute, by each of its methods.
func TestTraceroute(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":80")
		for _, method := range []string{"-U", "-T", "-I"} {
			out := c.NS.Run(t, "traceroute", "-n", "-q", "1", "-w", "2", "-m", "4", method, lab.RemoteIP)
			var hops []string
			for _, line := range strings.Split(out, "\n") {
				if f := strings.Fields(line); len(f) > 1 && net.ParseIP(f[1]) != nil {
					hops = append(hops, f[1])
				}
			}
			eq(t, "hops of traceroute "+method, strings.Join(hops, " "), lab.GatewayIP+" "+lab.RouterIP+" "+lab.RemoteIP)
		}
	})
}

// B-3, C-1, C-2, C-4: datagrams that do not fit into one packet, each way: pings, and UDP through masquerade and through a published port, also
// where only a few bytes are left for the last piece.
func TestDatagramsInPieces(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80/udp")
		s.Remote.Serve(t, "far", ":7000")
		c.NS.Run(t, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-s", "3000", lab.RemoteIP)
		for _, size := range []int{1473, 1474, 1475, 4000, 20000} {
			out := c.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000), lab.Size(size))
			eq(t, "who is seen", out.Seen().Addr().String(), lab.HostIP)
			in := s.Remote.Ask(t, "udp", lab.At(lab.HostIP, 8080), lab.Size(size))
			eq(t, "which client is seen", in.Seen().Addr().String(), lab.RemoteIP)
		}
	})
}
