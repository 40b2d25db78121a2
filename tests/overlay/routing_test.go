package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

const directRouting = network + `,"Backend":{"Type":"vxlan","DirectRouting":true}}`

// between keeps the packets of a capture that two hosts or their containers exchange, as they are or wrapped.
func between(c *lab.Capture, a, b *lab.Member, subnets [2]netip.Prefix) (direct, wrapped int) {
	for _, p := range c.All(func(p lab.Packet) bool { return p.IP != nil }) {
		from, to := p.Source().Addr(), p.Destination().Addr()
		switch {
		case from.String() == a.IP && to.String() == b.IP, from.String() == b.IP && to.String() == a.IP:
			if p.UDP != nil && p.UDP.DstPort == 8472 {
				wrapped++
			}
		case subnets[0].Contains(from) && subnets[1].Contains(to), subnets[1].Contains(from) && subnets[0].Contains(to):
			direct++
		}
	}
	return direct, wrapped
}

// Hosts on two segments with a router in between, in one network that asks for direct routing. One network serves.
func TestDirectRouting(t *testing.T) {
	g := suite.NewSegment(t, lab.Default)
	g.StartEtcd(t)
	g.Etcdctl(t, "put", lab.NetworkKey, directRouting)
	hosts := []*lab.Member{g.Add(t), g.Add(t), g.AddBehind(t)}
	var subnets []netip.Prefix
	var c []*lab.Container
	for i, h := range hosts {
		h.Start(t)
		subnets = append(subnets, netip.MustParsePrefix(h.Subnet(t)["FLANNEL_SUBNET"]).Masked())
		c = append(c, h.Host.Run(t, fmt.Sprintf("c%d", i)))
		h.Await(t, c[i])
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range hosts {
				h.Report(t)
			}
		}
	})
	for i, h := range hosts {
		for j := range hosts {
			if i != j {
				awaitPeer(t, h, subnets[j], hosts[j].IP)
			}
		}
	}
	meet := func(t *testing.T, i, j int) {
		t.Helper()
		for _, proto := range []string{"tcp", "udp"} {
			if seen := c[i].NS.Ask(t, proto, c[j].At(80)).Seen().Addr(); seen != c[i].IP {
				t.Errorf("%s from container %s is seen as %s", proto, c[i].IP, seen)
			}
			hosts[i].NS.Ask(t, proto, c[j].At(80))
		}
	}
	// way tells how two hosts talk now, from what the router's bridge sees of it.
	way := func(t *testing.T, i, j int) string {
		t.Helper()
		wire := g.Router.Capture(t, fmt.Sprintf("h%d", i+1))
		meet(t, i, j)
		meet(t, j, i)
		direct, wrapped := between(wire, hosts[i], hosts[j], [2]netip.Prefix{subnets[i], subnets[j]})
		switch {
		case direct > 0 && wrapped > 0:
			return "both"
		case direct > 0:
			return "direct"
		default:
			return "vxlan"
		}
	}

	// overlay D3: as they are where no router is in between, and in the tunnel elsewhere.
	t.Run("direct inside and wrapped across", func(t *testing.T) {
		for _, w := range []struct {
			i, j int
			want string
		}{{0, 1, "direct"}, {0, 2, "vxlan"}, {1, 2, "vxlan"}} {
			if got := way(t, w.i, w.j); got != w.want {
				t.Errorf("between %s and %s: %s, want %s", hosts[w.i].IP, hosts[w.j].IP, got, w.want)
			}
		}
	})

	// overlay D3: a route that somebody deletes is back.
	t.Run("route deleted", func(t *testing.T) {
		route := subnets[1].String() + " via " + hosts[1].IP
		hosts[0].NS.IP(t, "route delete "+route)
		took := lab.Eventually(t, settled, func() error {
			if list := hosts[0].NS.IP(t, "route show "+route); list == "" {
				return fmt.Errorf("no route to %s", subnets[1])
			}
			return nil
		})
		t.Logf("back after %v", took)
		if got := way(t, 0, 1); got != "direct" {
			t.Errorf("%s afterwards", got)
		}
	})

	// overlay D3: the way is chosen again when the routes between the hosts change.
	t.Run("routes change", func(t *testing.T) {
		for _, step := range []struct{ deed, want string }{{"add", "vxlan"}, {"delete", "direct"}} {
			for i := range 2 {
				hosts[i].NS.IP(t, "route "+step.deed+" "+hosts[1-i].IP+"/32 via "+lab.SegmentIP)
			}
			for i := range 2 {
				lab.Eventually(t, settled, func() error {
					if peer := awaitPeer(t, hosts[i], subnets[1-i], hosts[1-i].IP); peer.Way != step.want {
						return fmt.Errorf("the way is %s, want %s", peer.Way, step.want)
					}
					return nil
				})
			}
			meet(t, 0, 1)
			meet(t, 1, 0)
		}
	})

	// J-3: a router that tells a host that an outer packet was too big makes the inner ones smaller: their senders are told.
	t.Run("path MTU", func(t *testing.T) {
		const path = 1300
		wire := g.Router.Capture(t, "h1")
		c[0].NS.Ask(t, "udp", c[2].At(80))
		o := wire.Find(t, "an outer packet", func(p lab.Packet) bool {
			return p.UDP != nil && p.UDP.DstPort == 8472 && p.Source().Addr().String() == hosts[0].IP
		})
		// As much of it as a router tells (RFC 1812, section 4.3.2.3): the kernel looks at the VXLAN header too.
		quote := append([]byte(nil), o.Data[14:]...)
		about := lab.Frame(t, &layers.Ethernet{SrcMAC: o.Eth.DstMAC, DstMAC: o.Eth.SrcMAC, EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: o.IP.DstIP.To4(), DstIP: o.IP.SrcIP.To4()},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded), Seq: path},
			gopacket.Payload(quote))
		g.Router.Inject(t, "h1", about)
		inside := c[0].NS.Capture(t, "eth0")
		conn := c[0].NS.ListenUDP(t, "0.0.0.0:0")
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var serr error
		if err := raw.Control(func(fd uintptr) {
			serr = unix.SetsockoptInt(int(fd), syscall.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		}); err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		var told lab.Packet
		lab.Eventually(t, settled, func() error {
			// The route is looked at once a second.
			if _, err := conn.WriteToUDPAddrPort(make([]byte, path), lab.AddrPort(c[2].IP.String(), 80)); err != nil {
				return err
			}
			found := inside.All(func(p lab.Packet) bool {
				return p.ICMP != nil && p.ICMP.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
			})
			if len(found) == 0 {
				return fmt.Errorf("no error yet")
			}
			told = found[0]
			return nil
		})
		if who := told.Source().Addr(); who != subnets[0].Addr().Next() {
			t.Errorf("%s answers", who)
		}
		if mtu := binary.BigEndian.Uint16(told.Data[14+20+6:]); mtu != path-50 {
			t.Errorf("the MTU is %d, want %d", mtu, path-50)
		}
		// What may be cut arrives all the same, and so does a stream.
		c[0].NS.Ask(t, "udp", c[2].At(80), lab.Size(3000))
		const size = 1 << 20
		if got, err := c[0].NS.Dial(t, "tcp", c[2].At(80)).Sink(size, settled); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("%q %v", got, err)
		}
	})

	// overlay L12: a host that has another address goes on with its subnet, and the others find it there.
	t.Run("another address", func(t *testing.T) {
		const moved = "198.18.0.77"
		h := hosts[1]
		if err := h.StopAgent(); err != nil {
			t.Fatal(err)
		}
		h.NS.IP(t, "addr del "+h.IP+"/24 dev "+lab.SegmentDevice)
		h.NS.IP(t, "addr add "+moved+"/24 dev "+lab.SegmentDevice)
		h.NS.IP(t, "route add default via "+lab.SegmentIP)
		h.StartAgent(t)
		began := time.Now()
		h.IP = moved
		for _, other := range []*lab.Member{hosts[0], hosts[2]} {
			awaitPeer(t, other, subnets[1], moved)
		}
		t.Logf("the others know after %v", time.Since(began).Round(time.Millisecond))
		lab.Eventually(t, settled, func() error {
			for _, i := range []int{0, 2} {
				if _, err := c[i].NS.TryAsk("tcp", c[1].At(80), lab.Within(time.Second)); err != nil {
					return err
				}
				if _, err := c[1].NS.TryAsk("tcp", c[i].At(80), lab.Within(time.Second)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
