package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"golang.org/x/net/ipv4"
)

// G-1, G-2: between two containers of a bridge nothing changes: neither the time to live nor a link-layer address, and neighbour tables stay
// as the bridge has them. On a route one hop is spent, and the gateway answers for the last one.
func TestBridgedAndRouted(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a"), s.Run(t, "b", "-p", "8080:80", "-p", "8080:80/udp")
		s.Remote.Serve(t, "far", ":7000")
		inA, inB, wire := a.NS.Capture(t, "eth0"), b.NS.Capture(t, "eth0"), s.Router.Capture(t, "r0")
		both(t, func(t *testing.T, network string) {
			s.carried(t, "local", 2, func() {
				client := a.NS.Dial(t, network, b.At(80))
				client.Ask(t)
				client.Ask(t)
			})
			s.carried(t, "out", 2, func() { a.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)) })
			s.carried(t, "in", 2, func() { s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)) })
		})
		gateway := net.HardwareAddr(s.gateway(t)).String()
		for _, c := range []struct {
			name     string
			capture  *lab.Capture
			match    func(lab.Packet) bool
			ttl      uint8
			src, dst string
		}{
			{"to the neighbour", inB, func(p lab.Packet) bool { return !p.Sent && p.Source().Addr() == a.IP }, 64, a.MAC, b.MAC},
			{"from the neighbour", inA, func(p lab.Packet) bool { return !p.Sent && p.Source().Addr() == b.IP }, 64, b.MAC, a.MAC},
			{"to outside", wire, func(p lab.Packet) bool { return p.Destination() == lab.AddrPort(lab.RemoteIP, 7000) }, 63,
				s.NS.Device(t, "up0").HardwareAddr.String(), s.Router.Device(t, "r0").HardwareAddr.String()},
			{"from outside", inB, func(p lab.Packet) bool { return !p.Sent && p.Source().Addr().String() == lab.RemoteIP }, 62, gateway, b.MAC},
		} {
			c.capture.Find(t, "packet "+c.name, c.match)
			for _, p := range c.capture.All(c.match) {
				if p.IP.TTL != c.ttl || p.Eth.SrcMAC.String() != c.src || p.Eth.DstMAC.String() != c.dst {
					t.Errorf("%s: want ttl %d %s > %s: %v", c.name, c.ttl, c.src, c.dst, p)
				}
			}
		}
		for _, n := range []struct{ at, of *lab.Container }{{a, b}, {b, a}} {
			if got := n.at.NS.IP(t, "neigh show "+n.of.IP.String()); !strings.Contains(got, n.of.MAC) {
				t.Errorf("neighbour table of %s: %q, want %s", n.at.Name, got, n.of.MAC)
			}
		}
		sound(t, inA)
		sound(t, inB)

		p := a.NS.Ping(t, 81)
		p.TTL(t, 1)
		p.Send(t, lab.RemoteIP, []byte("one hop"))
		h, err := p.Hear(lab.Patience)
		if err != nil || h.Type != ipv4.ICMPTypeTimeExceeded || h.From.String() != lab.GatewayIP {
			t.Errorf("a packet with one hop left: %v from %v, %v", h.Type, h.From, err)
		}
		p.TTL(t, 2)
		p.Send(t, lab.RemoteIP, []byte("two hops"))
		wire.Find(t, "packet with its last hop", func(p lab.Packet) bool { return echoes(p) && p.IP.TTL == 1 })
		if h, err := p.Hear(lab.Patience); err != nil || h.From.String() != lab.RouterIP {
			t.Errorf("a packet that dies one hop on: %v from %v, %v", h.Type, h.From, err)
		}
		p.TTL(t, 1)
		p.Ping(t, b.IP.String(), []byte("a neighbour is no hop away"))
	})
}

// G-4: addresses that nobody has announced work all the same: a second one in a container, and a machine behind one with a link-layer
// address of its own.
func TestUnknownAddresses(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, append(docker0(), "--allow-spoofing")...)
		a, b := s.Run(t, "a"), s.Run(t, "b")
		s.Remote.Serve(t, "far", ":7000")
		b.NS.IP(t, "addr add 172.17.200.1/16 dev eth0")
		vm := s.Machine(t, "vm")
		b.NS.IP(t, "link add vm0 link eth0 type macvlan mode bridge")
		b.NS.Run(t, "ip", "link", "set", "vm0", "netns", vm.Path())
		vm.IP(t, "addr add 172.17.200.2/16 dev vm0")
		vm.IP(t, "link set vm0 up")
		vm.IP(t, "route add default via "+lab.GatewayIP)
		vm.Serve(t, "vm", ":80")
		both(t, func(t *testing.T, network string) {
			for ip, name := range map[string]string{"172.17.200.1": "b", "172.17.200.2": "vm"} {
				answer := a.NS.Ask(t, network, lab.At(ip, 80), lab.From(":5006"))
				eq(t, "who answers at "+ip, answer.Name, name)
				eq(t, "whom it sees", answer.Client, a.At(5006))
				answer = s.NS.Ask(t, network, lab.At(ip, 80))
				eq(t, "who answers the host at "+ip, answer.Name, name)
			}
			answer := b.NS.Ask(t, network, a.At(80), lab.From("172.17.200.1:5006"))
			eq(t, "whom a sees of the second address", answer.Client, "172.17.200.1:5006")
			answer = vm.Ask(t, network, a.At(80), lab.From("172.17.200.2:5006"))
			eq(t, "whom a sees of the machine behind b", answer.Client, "172.17.200.2:5006")
		})
		vm.Ping(t, 82).Ping(t, a.IP.String(), []byte("from behind"))
	})
}

// G-5: a container that sends with another's addresses gets none of the other's answers, and does not touch the other's flows.
func TestSpoofing(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		thief, victim := s.Run(t, "thief"), s.Run(t, "victim", "-p", "8080:80/udp")
		s.Remote.Serve(t, "far", ":7000")
		flow := victim.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(":5007"))
		seen := flow.Ask(t).Seen()
		client := s.Remote.Dial(t, "udp", lab.At(lab.HostIP, 8080), lab.From(":4007"))
		client.Ask(t)
		far, stolen := s.Remote.Capture(t, "far"), thief.NS.Capture(t, "eth0")
		before := s.Scrape(t).Dropped("spoofed")
		own, other := thief.NS.Device(t, "eth0").HardwareAddr, victim.NS.Device(t, "eth0").HardwareAddr
		gateway := net.HardwareAddr(s.gateway(t))
		for _, mac := range []net.HardwareAddr{own, other} {
			for _, w := range []lab.Way{
				{Src: lab.AddrPort(victim.IP.String(), 5007), Dst: lab.AddrPort(lab.RemoteIP, 7000)}, // the victim's own flow
				{Src: lab.AddrPort(victim.IP.String(), 5008), Dst: lab.AddrPort(lab.RemoteIP, 7000)}, // a new one
				{Src: lab.AddrPort(victim.IP.String(), 80), Dst: lab.AddrPort(lab.RemoteIP, 4007)},   // an answer to the victim's client
			} {
				w.SrcMAC, w.DstMAC = mac, gateway
				thief.NS.Inject(t, "eth0", w.UDP(t, []byte("spoofed")))
			}
		}
		lab.Eventually(t, lab.Patience, func() error {
			if got := s.Scrape(t).Dropped("spoofed") - before; got != 6 {
				return fmt.Errorf("%g packets are counted as spoofed, want 6", got)
			}
			return nil
		})
		far.None(t, "a spoofed packet", carrying("spoofed"))
		for range 3 {
			eq(t, "the victim's flow outside", flow.Ask(t).Seen(), seen)
			client.Ask(t)
		}
		stolen.None(t, "the victim's packet", func(p lab.Packet) bool { return p.Destination().Addr() == victim.IP })
	})
}

// G-8: what comes from an uplink is addressed to the container on the link layer too; its stack would drop it otherwise.
func TestPacketHost(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80", "-p", "8080:80/udp")
		s.Remote.Serve(t, "far", ":7000")
		inside := c.NS.Capture(t, "eth0")
		both(t, func(t *testing.T, network string) {
			s.carried(t, "in", 2, func() { s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)) })
			s.carried(t, "out", 2, func() { c.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)) })
		})
		found := inside.All(func(p lab.Packet) bool { return !p.Sent && p.Source().Addr().String() == lab.RemoteIP })
		if len(found) < 4 {
			t.Errorf("the container saw %d packets from outside", len(found))
		}
		for _, p := range found {
			if !p.ToUs || p.Eth.DstMAC.String() != c.MAC {
				t.Errorf("not for the container on the link layer: %v", p)
			}
		}
	})
}

// G-9: after a time without a frame that the bridge could learn from, what the host sends to a container is seen by that container alone.
func TestBridgeDoesNotForget(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c, bystander := s.Run(t, "c"), s.Run(t, "bystander")
		s.Remote.Serve(t, "far", ":7000")
		s.NS.IP(t, "link set docker0 type bridge ageing_time 100") // in hundredths of a second; 300 s by default
		t.Cleanup(func() { s.NS.IP(t, "link set docker0 type bridge ageing_time 30000") })
		s.NS.Ask(t, "tcp", c.At(80)) // the host knows the container's link-layer address from now on
		outside := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000))
		s.carried(t, "out", 10, func() {
			lab.Throughout(t, 2500*time.Millisecond, func() error {
				_, err := outside.TryAsk()
				return err
			})
		})
		overheard := bystander.NS.Capture(t, "eth0")
		s.NS.Ask(t, "tcp", c.At(80))
		s.NS.Ask(t, "udp", c.At(80))
		s.NS.Ping(t, 83).Ping(t, c.IP.String(), []byte("to c alone"))
		overheard.None(t, "a frame for another container", func(p lab.Packet) bool { return p.Eth != nil && p.Eth.DstMAC.String() == c.MAC })
	})
}

// G-13: with several networks, a new name and neighbours that share the host's network, each packet finds its container.
func TestSeveralNetworks(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		first, _ := s.attachNetwork(t, "first", "--subnet", "10.63.1.0/24")
		second, _ := s.attachNetwork(t, "second", "--subnet", "10.63.2.0/24")
		hub := s.Run(t, "hub", "--network", first)
		s.Docker(t, "network", "connect", second, hub.ID)
		hub.Refresh(t)
		s.await(t, hub)
		one, two := s.Run(t, "one", "--network", first), s.Run(t, "two", "--network", second)
		s.Host.Run(t, "hostly", "--network", "host", "--", "/bin/sleep", "1000")
		s.Docker(t, "rename", hub.ID, hub.Name+"-renamed")
		hub.Name += "-renamed"
		s.await(t, hub)
		both(t, func(t *testing.T, network string) {
			for _, c := range []struct {
				from *lab.Container
				to   netip.Addr
			}{{one, hub.IPs[first]}, {two, hub.IPs[second]}} {
				a := c.from.NS.Ask(t, network, lab.At(c.to.String(), 80), lab.From(":5009"))
				eq(t, "who answers", a.Name, "hub")
				eq(t, "whom it sees", a.Client, c.from.At(5009))
			}
			eq(t, "one seen from hub", hub.NS.Ask(t, network, one.At(80)).Name, "one")
			eq(t, "two seen from hub", hub.NS.Ask(t, network, two.At(80)).Name, "two")
			one.NS.Unanswered(t, network, two.At(80))
			two.NS.Unanswered(t, network, one.At(80))
		})
		names := map[string]int{}
		for _, e := range s.Endpoints(t) {
			names[e.Container]++
		}
		eq(t, "endpoints of the hub", names[hub.Name], 2)
		if err := errors.Join(absent(names, "hostly")); err != nil {
			t.Error(err)
		}
	})
}

func absent(names map[string]int, prefix string) error {
	for name := range names {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("%s is an endpoint", name)
		}
	}
	return nil
}

// G-15: when the bridge changes its link-layer address, or goes down and up again, containers see the address that it has.
func TestBridgeChangesAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		inside := c.NS.Capture(t, "eth0")
		check := func(what string) {
			t.Helper()
			mac := net.HardwareAddr(s.gateway(t)).String()
			// The container's own table is its own affair.
			c.NS.IP(t, "neigh flush dev eth0")
			lab.Eventually(t, 2*time.Second, func() error {
				a, err := c.NS.TryAsk("tcp", lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
				if err == nil && a.Seen().Addr().String() != lab.HostIP {
					err = fmt.Errorf("seen as %v", a.Seen())
				}
				return err
			})
			seen := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Seen()
			got := inside.All(func(p lab.Packet) bool { return !p.Sent && p.Source() == seen })
			if len(got) == 0 || got[len(got)-1].Eth.SrcMAC.String() != mac {
				t.Errorf("%s: the last packet from outside is not from %s: %v", what, mac, got)
			}
		}
		check("before")
		old := net.HardwareAddr(s.gateway(t)).String()
		t.Cleanup(func() { s.NS.IP(t, "link set docker0 address "+old) })
		s.NS.IP(t, "link set docker0 address 02:42:00:00:00:99")
		lab.Eventually(t, time.Second, func() error {
			a := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080))
			got := inside.All(func(p lab.Packet) bool { return !p.Sent && p.Source() == a.Seen() })
			if len(got) == 0 || got[0].Eth.SrcMAC.String() != "02:42:00:00:00:99" {
				return fmt.Errorf("packets from outside still have the old address: %v", got)
			}
			return nil
		})
		check("new address")
		s.NS.IP(t, "link set docker0 down")
		s.NS.IP(t, "link set docker0 up")
		check("down and up")
	})
}
