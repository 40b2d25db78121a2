package e2e

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/gopacket/gopacket/layers"
)

// refused is dropped, in the world where nobody but the product refuses.
func (s site) refused(t testing.TB, reason string, fn func()) {
	t.Helper()
	if s.World == lab.Default { // Docker's own rules do it
		fn()
		return
	}
	s.dropped(t, reason, 1, fn)
}

// dropped fails the test where the product has not counted that many packets under a reason while fn ran.
func (s site) dropped(t testing.TB, reason string, least int, fn func()) {
	t.Helper()
	before := s.Scrape(t).Dropped(reason)
	fn()
	lab.Eventually(t, lab.Patience, func() error {
		if got := s.Scrape(t).Dropped(reason) - before; got < float64(least) {
			return fmt.Errorf("%g packets are counted as %s, want %d or more", got, reason, least)
		}
		return nil
	})
}

// A machine outside that routes to a container's own address does not reach it (H-20). Over Docker's rules they decide, and those before
// version 28 let a published port through.
func TestDirectRouting(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		s.Router.IP(t, "route add "+lab.BridgeNet+" via "+lab.HostIP)
		t.Cleanup(func() { s.Router.IP(t, "route del "+lab.BridgeNet) })
		inside := web.NS.Capture(t, "eth0")
		for _, from := range []*lab.Netns{s.Router, s.Remote} {
			both(t, func(t *testing.T, network string) {
				s.refused(t, "direct", func() { from.Unanswered(t, network, web.At(81)) })
				if s.World == lab.Native {
					from.Unanswered(t, network, web.At(80))
				}
			})
			p := from.Ping(t, 84)
			p.Send(t, web.IP.String(), []byte("by its own address"))
			p.Silent(t)
		}
		inside.None(t, "a packet from outside by its own address", func(p lab.Packet) bool {
			return !p.Sent && p.IP != nil && (p.Source().Addr().String() == lab.RemoteIP || p.Source().Addr().String() == lab.RouterIP)
		})
		eq(t, "the published port", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
	})
}

// An internal network leads nowhere but to itself and the host's own end of it (G-6 in part).
func TestInternalNetwork(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		network, _ := s.attachNetwork(t, "internal", "--internal", "--subnet", "10.66.1.0/24", "--gateway", "10.66.1.1")
		a, b := s.Run(t, "a", "--network", network), s.Run(t, "b", "--network", network)
		outer := s.Run(t, "outer", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		s.NS.Serve(t, "host", ":7001")
		// Docker gives it no way out; it takes one.
		a.NS.IP(t, "route replace default via 10.66.1.1")
		eq(t, "the neighbour", a.NS.Ask(t, "tcp", b.At(80)).Name, "b")
		eq(t, "the host's end", a.NS.Ask(t, "tcp", lab.At("10.66.1.1", 7001)).Name, "host")
		s.refused(t, "internal", func() { a.NS.Unanswered(t, "udp", lab.At(lab.RemoteIP, 7000)) })
		a.NS.Unanswered(t, "tcp", lab.At(lab.RemoteIP, 7000))
		a.NS.Unanswered(t, "tcp", outer.At(80))
		a.NS.Unanswered(t, "tcp", lab.At(lab.HostIP, 8080))
		outer.NS.Unanswered(t, "tcp", a.At(80))
		s.NS.Ask(t, "tcp", a.At(80))
	})
}

// A network that forbids its containers to talk to each other does so from the first packet on, and lets them out (G-6 in part).
func TestContainersApart(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		network, _ := s.attachNetwork(t, "apart", "--opt", "com.docker.network.bridge.enable_icc=false", "--subnet", "10.66.2.0/24")
		a, b := s.Run(t, "a", "--network", network), s.Run(t, "b", "--network", network, "-p", "8085:80")
		s.Remote.Serve(t, "far", ":7000")
		inside := b.NS.Capture(t, "eth0")
		both(t, func(t *testing.T, network string) {
			s.refused(t, "icc", func() { a.NS.Unanswered(t, network, b.At(80)) })
			eq(t, "out", a.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		})
		inside.None(t, "a neighbour's packet", func(p lab.Packet) bool { return !p.Sent && p.IP != nil && p.Source().Addr() == a.IP })
		eq(t, "in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8085)).Name, "b")
	})
}

// What cannot be right is dropped under its reason, and counted, whichever side it comes from; the host goes on (M-1 and L-1 in part).
func TestNonsenseIsCounted(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80")
		w := s.wire(t, lab.AddrPort(lab.RemoteIP, 4015), lab.AddrPort(lab.HostIP, 8080))
		own := lab.Way{SrcMAC: c.NS.Device(t, "eth0").HardwareAddr, DstMAC: s.gateway(t), Src: lab.AddrPort(c.IP.String(), 5015), Dst: lab.AddrPort(lab.RemoteIP, 7000)}
		short := func(b []byte) []byte { b[14+3] += 40; return b }         // a total length beyond the packet
		header := func(b []byte) []byte { b[14] = 0x44; return b }         // a header shorter than one is
		offset := func(b []byte) []byte { b[14+20+12] = 4 << 4; return b } // TCP data that begins in its header
		syn := func(p *layers.TCP) { p.SYN = true }
		for reason, spoil := range map[string]func([]byte) []byte{"truncated": short, "ip_header": header, "l4_header": offset} {
			s.dropped(t, reason, 1, func() { s.Router.Inject(t, "r0", spoil(w.TCP(t, syn))) })
			s.dropped(t, reason, 1, func() { c.NS.Inject(t, "eth0", spoil(own.TCP(t, syn))) })
		}
		eq(t, "afterwards", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "c")
	})
}
