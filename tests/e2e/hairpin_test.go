package e2e

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// H-4: a container reaches a published port by the host's addresses: its own port, a neighbour's, and one on another attached bridge. The
// answer comes from the address that it dialled.
func TestHairpin(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		neighbour := s.Run(t, "neighbour")
		network, _ := s.attachNetwork(t, "net", "--subnet", "10.64.0.0/24")
		stranger := s.Run(t, "stranger", "--network", network, "-p", "8081:80", "-p", "8081:80/udp")
		both(t, func(t *testing.T, network string) {
			for _, c := range []struct {
				name string
				from *lab.Container
				port int
				who  string
			}{
				{"its own port", web, 8080, "web"},
				{"a neighbour's", neighbour, 8080, "web"},
				{"one on another bridge", stranger, 8080, "web"},
				{"back the other way", neighbour, 8081, "stranger"},
			} {
				for _, ip := range []string{lab.HostIP, lab.HostIP1, lab.GatewayIP, "10.64.0.1"} {
					t.Run(c.name+" by "+ip, func(t *testing.T) {
						s.carried(t, "local", 4, func() {
							client := c.from.NS.Dial(t, network, lab.At(ip, c.port))
							for range 2 {
								// Ask over UDP hears only the address that it dialled.
								eq(t, "who answers", client.Ask(t).Name, c.who)
							}
						})
					})
				}
			}
			// An unconnected socket says so by itself.
			for _, c := range []*lab.Container{web, neighbour, stranger} {
				if network == "udp" {
					c.NS.Ask(t, network, lab.At(lab.HostIP, 8080), lab.Unconnected())
				}
			}
			// Directly, bridges stay apart.
			stranger.NS.Unanswered(t, network, web.At(80))
			neighbour.NS.Unanswered(t, network, stranger.At(80))
		})
	})
}

// G-16: a packet that passes several of the datapath's programs is translated and counted once, by whatever path.
func TestCountedOnce(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a", "-p", "8080:80/udp"), s.Run(t, "b")
		s.Remote.Serve(t, "far", ":7000")
		for _, c := range []struct {
			name, path string
			from       *lab.Netns
			to         string
			at         func(t *testing.T) *lab.Capture
			want       string // destination, where the packet arrives
		}{
			{"neighbour", "local", b.NS, a.At(80), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
			{"hairpin", "local", b.NS, lab.At(lab.HostIP, 8080), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
			{"itself", "local", a.NS, lab.At(lab.HostIP, 8080), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
			{"in", "in", s.Remote, lab.At(lab.HostIP, 8080), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
			{"out", "out", b.NS, lab.At(lab.RemoteIP, 7000), func(t *testing.T) *lab.Capture { return s.Remote.Capture(t, "far") }, lab.At(lab.RemoteIP, 7000)},
			{"host to container", "host", s.NS, a.At(80), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
			{"host by its loopback", "host", s.NS, lab.At("127.0.0.1", 8080), func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }, a.At(80)},
		} {
			t.Run(c.name, func(t *testing.T) {
				before := s.Settled(t)
				capture := c.at(t)
				const n = 5
				client := c.from.Dial(t, "udp", c.to)
				for range n {
					client.Ask(t)
				}
				after := s.Settled(t)
				for _, path := range []string{"local", "in", "out", "host"} {
					want := 0
					if path == c.path {
						want = 2 * n
					}
					eq(t, "packets by path "+path, int(after.Forwarded(path)-before.Forwarded(path)), want)
				}
				eq(t, "packets that arrived", len(capture.All(func(p lab.Packet) bool { return to(c.want)(p) && !p.Sent })), n)
				sound(t, capture)
			})
		}
	})
}
