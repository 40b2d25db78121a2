package e2e

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// E-12: a flow leaves with the address of the route that it takes: the other uplink's, or the one that the route names.
func TestMasqueradeAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		s.NS.IP(t, "addr add 192.0.2.9/24 dev up0")
		t.Cleanup(func() { s.NS.IP(t, "addr del 192.0.2.9/24 dev up0") })
		s.NS.IP(t, "route add "+lab.RemoteIP2+" via "+lab.RouterIP+" src 192.0.2.9")
		t.Cleanup(func() { s.NS.IP(t, "route del "+lab.RemoteIP2) })
		both(t, func(t *testing.T, network string) {
			for _, r := range []struct{ name, to, want string }{
				{"default route", lab.RemoteIP, lab.HostIP},
				{"other uplink", lab.RemoteBy1, lab.HostIP1},
				{"route with a source", lab.RemoteIP2, "192.0.2.9"},
				{"neighbour on the second uplink's network", lab.RouterIP1, lab.HostIP1},
			} {
				t.Run(r.name, func(t *testing.T) {
					if r.to == lab.RouterIP1 {
						s.Router.Serve(t, "router", ":7000")
					}
					s.carried(t, "out", 2, func() {
						a := c.NS.Ask(t, network, lab.At(r.to, 7000))
						eq(t, "address outside", a.Seen().Addr().String(), r.want)
					})
				})
			}
		})
	})
}

// E-13: answers of flows that came from outside leave with the address and port that were dialled, never as flows of their own.
func TestAnswersAreNotMasqueraded(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		wire, other := s.Router.Capture(t, "r0"), s.Router.Capture(t, "r1")
		both(t, func(t *testing.T, network string) {
			client := s.Remote.Dial(t, network, lab.At(lab.HostIP, 8080))
			for range 3 {
				client.Ask(t)
			}
			// By the second uplink's address, whose answers leave by the first one's default route or by the way they came.
			a := s.Remote.Ask(t, network, lab.At(lab.HostIP1, 8080))
			eq(t, "who answers at the second address", a.Name, "web")
		})
		for _, c := range []*lab.Capture{wire, other} {
			for _, p := range c.All(func(p lab.Packet) bool { return !p.Sent && (p.TCP != nil || p.UDP != nil) }) {
				if p.Source().Port() != 8080 {
					t.Errorf("an answer left as %v", p)
				}
			}
			for _, p := range c.All(func(p lab.Packet) bool { return p.IP != nil }) {
				if err := p.Checksums(); err != nil {
					t.Errorf("%v: %v", p, err)
				}
			}
		}
	})
}

// E-14: what does not leave the host keeps its source: to the host's own addresses, to other containers; and no multicast or broadcast
// leaves by an uplink.
func TestLocalTrafficIsNotMasqueraded(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c, n := s.Run(t, "c"), s.Run(t, "n")
		s.NS.Serve(t, "host", ":7000")
		wire, wire1, neighbour := s.Router.Capture(t, "r0"), s.Router.Capture(t, "r1"), n.NS.Capture(t, "eth0")
		both(t, func(t *testing.T, network string) {
			for _, ip := range []string{lab.GatewayIP, lab.HostIP, lab.HostIP1} {
				a := c.NS.Ask(t, network, lab.At(ip, 7000), lab.From(":5003"))
				eq(t, "who answers at "+ip, a.Name, "host")
				eq(t, "whom the host sees at "+ip, a.Client, c.At(5003))
				eq(t, "what the host was dialled at", a.Local, lab.At(ip, 7000))
			}
			a := c.NS.Ask(t, network, n.At(80), lab.From(":5003"))
			eq(t, "whom the neighbour sees", a.Client, c.At(5003))
		})
		for _, ip := range []string{"224.0.0.251", "239.1.2.3", "255.255.255.255", "172.17.255.255"} {
			c.NS.Send(t, lab.At(ip, 5353), []byte("to all of "+ip))
			p := neighbour.Find(t, "datagram to "+ip, carrying("to all of "+ip))
			eq(t, "source of what is sent to "+ip, p.Source().Addr(), c.IP)
			wire.None(t, "multicast or broadcast", carrying("to all of "))
			wire1.None(t, "multicast or broadcast", carrying("to all of "))
		}
	})
}
