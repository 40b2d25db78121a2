package e2e

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// I-1: a flow survives that its gateway changes its link-layer address or is forgotten, and the first packet after it is not lost.
func TestGatewayMoves(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		out := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000))
		tcp := c.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000))
		in := s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080))
		check := func(what string) {
			t.Helper()
			for name, client := range map[string]*lab.Client{"udp out": out, "tcp out": tcp, "tcp in": in} {
				if _, err := client.TryAsk(); err != nil {
					t.Errorf("%s: %s: %v", what, name, err)
				}
			}
		}
		check("before")
		s.NS.IP(t, "neigh flush dev up0")
		check("forgotten")
		old := s.Router.Device(t, "r0").HardwareAddr.String()
		t.Cleanup(func() {
			s.Router.IP(t, "link set r0 address "+old)
			s.NS.IP(t, "neigh flush dev up0")
		})
		s.Router.IP(t, "link set r0 address 02:00:00:00:00:77")
		// As the router's own announcement has it.
		s.NS.IP(t, fmt.Sprintf("neigh replace %s lladdr 02:00:00:00:00:77 nud stale dev up0", lab.RouterIP))
		wire := s.Router.Capture(t, "r0")
		check("moved")
		for _, p := range wire.All(func(p lab.Packet) bool { return !p.Sent && p.IP != nil }) {
			eq(t, "link-layer address of the gateway", p.Eth.DstMAC.String(), "02:00:00:00:00:77")
		}
		// A new flow with nobody in the neighbour table.
		s.NS.IP(t, "neigh flush dev up0")
		c.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000))
	})
}

// I-1: when the route leads to another gateway, flows under way go there within seconds.
func TestRouteMoves(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		const other = "192.0.2.253"
		s.Router.IP(t, "link add r0b link r0 type macvlan mode bridge")
		t.Cleanup(func() { s.Router.IP(t, "link del r0b") })
		s.Router.IP(t, "addr add "+other+"/24 dev r0b")
		s.Router.IP(t, "link set r0b up")
		gateway := s.Router.Device(t, "r0b").HardwareAddr.String()
		flows := map[string]*lab.Client{
			"in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)), "out": c.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
			"out udp": c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000)),
		}
		for _, flow := range flows {
			flow.Ask(t)
		}
		s.NS.IP(t, "route add "+lab.RemoteIP+" via "+other)
		t.Cleanup(func() { s.NS.IP(t, "route del "+lab.RemoteIP) })
		wire := s.Router.Capture(t, "r0")
		for name, flow := range flows {
			lab.Eventually(t, lab.Patience, func() error {
				before := len(wire.All(nil))
				flow.Ask(t)
				for _, p := range wire.All(nil)[before:] {
					if !p.Sent && p.IP != nil && p.Eth.DstMAC.String() != gateway {
						return fmt.Errorf("%s still goes by the old gateway: %v", name, p)
					}
				}
				return nil
			})
		}
	})
}

// I-8: where the uplink takes less than the container's device, the gateway says so with the right size, and TCP goes on, large segments
// included.
func TestSmallUplink(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		s.NS.IP(t, "link set up0 mtu 1400")
		t.Cleanup(func() { s.NS.IP(t, "link set up0 mtu 1500") })
		inside, wire := c.NS.Capture(t, "eth0"), s.Router.Capture(t, "r0")

		client := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
		client.Ask(t)
		setDontFragment(t, client)
		const text = "too large for the uplink"
		if _, err := client.Conn().Write(append([]byte(text), make([]byte, 1420-len(text))...)); err != nil {
			t.Fatal(err)
		}
		p := inside.Find(t, "fragmentation needed", func(p lab.Packet) bool {
			return p.ICMP != nil && p.ICMP.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
		})
		eq(t, "who says it", p.Source().Addr().String(), lab.GatewayIP)
		eq(t, "next hop's size", p.ICMP.Seq, 1400)
		if err := p.Checksums(); err != nil {
			t.Errorf("%v: %v", p, err)
		}
		wire.None(t, "the datagram", carrying(text))
		lab.Eventually(t, lab.Patience, func() error {
			if got := pathMTU(t, client); got != 1400 {
				return fmt.Errorf("the container's socket believes in %d", got)
			}
			return nil
		})

		const size = 1 << 20
		for name, tcp := range map[string]*lab.Client{
			"out": c.NS.Dial(t, "tcp", lab.At(lab.RemoteIP2, 7000)), "in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
		} {
			if got, err := tcp.Sink(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
				t.Errorf("%s, there: %v", name, err)
			}
			if got, err := tcp.Source(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
				t.Errorf("%s, back: %v", name, err)
			}
		}
	})
}

func setDontFragment(t *testing.T, c *lab.Client) {
	t.Helper()
	onSocket(t, c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
}

func pathMTU(t *testing.T, c *lab.Client) (mtu int) {
	t.Helper()
	onSocket(t, c, func(fd int) (err error) {
		mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		return err
	})
	return mtu
}

func onSocket(t *testing.T, c *lab.Client, fn func(fd int) error) {
	t.Helper()
	raw, err := c.Conn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil || inner != nil {
		t.Fatal(err, inner)
	}
}
