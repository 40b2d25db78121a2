package e2e

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/gopacket/gopacket/layers"
)

// H-5: a port that is published on the loopback address is the host's alone, even where a neighbour sends to that address by the wire.
func TestLoopbackBinding(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "web", "-p", "127.0.0.1:8080:80", "-p", "127.0.0.1:8080:80/udp", "-p", "8081:80", "-p", "8081:80/udp")
		other := s.Run(t, "other")
		inside, wire := c.NS.Capture(t, "eth0"), s.Router.Capture(t, "r0")
		both(t, func(t *testing.T, network string) {
			a := s.NS.Ask(t, network, lab.At("127.0.0.1", 8080))
			eq(t, "who answers the host", a.Name, "web")
			s.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8080))
			s.Router.Unanswered(t, network, lab.At(lab.HostIP, 8080))
			other.NS.Unanswered(t, network, lab.At(lab.GatewayIP, 8080))
			s.NS.Unanswered(t, network, lab.At(lab.HostIP, 8080))
		})
		eq(t, "route_localnet of docker0 is Docker's affair", len(s.NS.Sysctl(t, "net/ipv4/conf/docker0/route_localnet")), 1)
		before := s.Scrape(t)
		n := 0
		for _, w := range []lab.Way{
			s.wire(t, lab.AddrPort(lab.RouterIP, 4013), lab.AddrPort("127.0.0.1", 8080)),
			s.wire(t, lab.AddrPort("127.0.0.1", 4013), lab.AddrPort(lab.HostIP, 8081)),
			s.wire(t, lab.AddrPort("127.0.0.1", 4013), lab.AddrPort("127.0.0.1", 8080)),
		} {
			s.Router.Inject(t, "r0", w.UDP(t, []byte("forged")))
			s.Router.Inject(t, "r0", w.TCP(t, func(p *layers.TCP) { p.SYN, p.Seq = true, 1 }))
			n += 2
		}
		lab.Eventually(t, lab.Patience, func() error {
			now := s.Scrape(t)
			got := now.Dropped("loopback") + now.Dropped("martian_source") - before.Dropped("loopback") - before.Dropped("martian_source")
			if got != float64(n) {
				return fmt.Errorf("%g packets are counted as dropped, want %d", got, n)
			}
			return nil
		})
		loopback := func(p lab.Packet) bool {
			return p.IP != nil && (p.Source().Port() == 4013 || p.Destination().Port() == 4013)
		}
		inside.None(t, "a forged packet", loopback)
		wire.None(t, "an answer to a forged packet", func(p lab.Packet) bool { return !p.Sent && loopback(p) })
	})
}

// H-6: a port of one address and the same port of another lead to different containers; one of an address wins over one of all.
func TestBindingsPerAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		one := s.Run(t, "one", "-p", lab.HostIP+":8080:80", "-p", lab.HostIP+":8080:80/udp", "-p", "127.0.1.2:8082:80", "-p", "127.0.1.2:8082:80/udp")
		two := s.Run(t, "two", "-p", lab.HostIP1+":8080:80", "-p", lab.HostIP1+":8080:80/udp", "-p", "127.0.1.3:8082:80", "-p", "127.0.1.3:8082:80/udp")
		all := s.Run(t, "all")
		for _, proto := range []string{"tcp", "udp"} {
			s.Publish(t, "8081:80/"+proto, all.Name)
			s.Publish(t, lab.HostIP1+":8081:80/"+proto, two.Name)
		}
		both(t, func(t *testing.T, network string) {
			for _, c := range []struct {
				from *lab.Netns
				at   string
				who  string
			}{
				{s.Remote, lab.At(lab.HostIP, 8080), "one"},
				{s.Remote, lab.At(lab.HostIP1, 8080), "two"},
				{s.NS, lab.At(lab.HostIP, 8080), "one"},
				{s.NS, lab.At(lab.HostIP1, 8080), "two"},
				{all.NS, lab.At(lab.HostIP, 8080), "one"},
				{all.NS, lab.At(lab.HostIP1, 8080), "two"},
				{one.NS, lab.At(lab.HostIP1, 8080), "two"},
				{s.NS, lab.At("127.0.1.2", 8082), "one"},
				{s.NS, lab.At("127.0.1.3", 8082), "two"},
				{s.Remote, lab.At(lab.HostIP, 8081), "all"},
				{s.Remote, lab.At(lab.HostIP1, 8081), "two"},
				{s.NS, lab.At("127.0.0.1", 8081), "all"},
				{s.NS, lab.At(lab.HostIP1, 8081), "two"},
				{one.NS, lab.At(lab.GatewayIP, 8081), "all"},
				{one.NS, lab.At(lab.HostIP1, 8081), "two"},
			} {
				if a := c.from.Ask(t, network, c.at); a.Name != c.who {
					t.Errorf("%s at %s: answered by %s, want %s", c.from.Name, c.at, a.Name, c.who)
				}
			}
			s.NS.Unanswered(t, network, lab.At("127.0.0.1", 8080))
			s.NS.Unanswered(t, network, lab.At("127.0.0.1", 8082))
			all.NS.Unanswered(t, network, lab.At(lab.GatewayIP, 8080))
		})
	})
}

// H-7: a port of all addresses is one of an address that the host gets later, and not of one that it has lost.
func TestAddressesComeAndGo(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		c := s.Run(t, "c")
		const later = "192.0.2.77"
		s.Router.Unanswered(t, "tcp", lab.At(later, 8080), lab.Within(lab.Doubt/4))
		s.NS.IP(t, "addr add "+later+"/24 dev up0")
		both(t, func(t *testing.T, network string) {
			for name, from := range map[string]*lab.Netns{"router": s.Router, "remote": s.Remote, "host": s.NS, "container": c.NS} {
				lab.Eventually(t, lab.Patience, func() error {
					a, err := from.TryAsk(network, lab.At(later, 8080), lab.Within(lab.Doubt))
					if err == nil && a.Name != "web" {
						err = fmt.Errorf("%s was answered by %s", name, a.Name)
					}
					return err
				})
			}
		})
		s.NS.IP(t, "addr del "+later+"/24 dev up0")
		lab.Eventually(t, lab.Patience, func() error {
			if a, err := s.Router.TryAsk("udp", lab.At(later, 8080), lab.Within(lab.Doubt/4)); err == nil {
				return fmt.Errorf("%s still answers at an address that is gone", a.Name)
			}
			return nil
		})
		eq(t, "who answers at the address that stays", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
	})
}
