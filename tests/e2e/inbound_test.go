package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
	"github.com/gopacket/gopacket/layers"
)

// H-1: a container sees the client's own address and port, and the client is answered from the address that it dialled.
func TestPublishedPort(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "8000:8000")
		both(t, func(t *testing.T, network string) {
			// The container could not tell one client port's two flows apart: each has its own.
			for i, at := range []string{lab.HostIP, lab.HostIP1} {
				s.carried(t, "in", 2, func() {
					a := s.Remote.Ask(t, network, lab.At(at, 8080), lab.From(lab.At(lab.RemoteIP, 4020+i)))
					eq(t, "who answers at "+at, a.Name, "web")
					eq(t, "whom it sees", a.Client, lab.At(lab.RemoteIP, 4020+i))
					eq(t, "what it was dialled at", a.Local, c.At(80))
				})
			}
			a := s.Router.Ask(t, network, lab.At(lab.HostIP, 8080), lab.From(lab.At(lab.RouterIP, 4010)))
			eq(t, "whom it sees of the uplink's own network", a.Client, lab.At(lab.RouterIP, 4010))
			s.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8079))
		})
		var reply echo.Reply
		page := s.Remote.Run(t, "curl", "--silent", "--show-error", "--max-time", "5", "--local-port", "4011", "http://"+lab.At(lab.HostIP, 8000)+"/page")
		if err := json.Unmarshal([]byte(page), &reply); err != nil {
			t.Fatalf("%v: %s", err, page)
		}
		eq(t, "page", reply.Token, "/page")
		eq(t, "whom HTTP sees", reply.Client, lab.At(lab.RemoteIP, 4011))
	})
}

// H-9: TCP and UDP of one number lead to different containers.
func TestOneNumberTwoProtocols(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "tcp", "-p", "5300:80/tcp")
		s.Run(t, "udp", "-p", "5300:81/udp")
		only := s.Run(t, "only", "-p", "5301:80/tcp")
		both(t, func(t *testing.T, network string) {
			for name, from := range map[string]*lab.Netns{"remote": s.Remote, "host": s.NS, "container": only.NS} {
				eq(t, "who answers "+name, from.Ask(t, network, lab.At(lab.HostIP, 5300)).Name, network)
			}
		})
		eq(t, "the port of TCP alone", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 5301)).Name, "only")
		s.Remote.Unanswered(t, "udp", lab.At(lab.HostIP, 5301))
	})
}

// H-11: no packet to a published port reaches the listener that dockerd keeps there: every connection gets data, and what belongs to no
// connection is not answered by dockerd's socket with a sequence number of its own.
func TestListenerOfDockerd(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "web", "-p", "8080:80")
		neighbour := s.Run(t, "n")
		host := s.NS.Capture(t, "lo")
		for i := range 20 {
			for name, from := range map[string]*lab.Netns{"remote": s.Remote, "host": s.NS, "neighbour": neighbour.NS, "itself": c.NS} {
				if a := from.Ask(t, "tcp", lab.At(lab.HostIP, 8080)); a.Name != "web" {
					t.Fatalf("connection %d from %s: %+v", i, name, a)
				}
			}
		}
		host.None(t, "a packet to the published port on the host's loopback", func(p lab.Packet) bool {
			return p.TCP != nil && p.TCP.DstPort == 8080
		})
		// A segment out of nowhere, and a connection with the same numbers right after it.
		w := s.wire(t, lab.AddrPort(lab.RemoteIP, 4012), lab.AddrPort(lab.HostIP, 8080))
		wire := s.Router.Capture(t, "r0")
		for _, set := range []func(*layers.TCP){
			func(p *layers.TCP) { p.ACK, p.Seq, p.Ack = true, 1000, 2000 },
			func(p *layers.TCP) { p.FIN, p.ACK, p.Seq, p.Ack = true, true, 1000, 2000 },
			func(p *layers.TCP) { p.RST, p.Seq = true, 1000 },
		} {
			s.Router.Inject(t, "r0", w.TCP(t, set))
		}
		a := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080), lab.From(lab.At(lab.RemoteIP, 4012)))
		eq(t, "who answers after stray segments", a.Name, "web")
		wire.None(t, "a handshake from a stray segment", func(p lab.Packet) bool {
			return p.TCP != nil && !p.Sent && p.TCP.SYN && p.TCP.ACK && p.TCP.Ack == 1001
		})
	})
}

// H-12: hundreds of ports in a range work, each to its own port of the container, and those beside it do not. In Docker's default
// configuration the range that it publishes itself is a small one, because it starts a process for each port.
func TestPortRange(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		const serve = "/bin/probe serve -name range -tcp 9000-9199 -udp 9000-9199 -http 81"
		last := map[lab.World]int{lab.Default: 19, lab.Native: 199}[s.World]
		c := s.Run(t, "range", append([]string{"-p", fmt.Sprintf("20000-%d:9000-%d/udp", 20000+last, 9000+last), "--"}, words(serve)...)...)
		some := []int{0, 1, last / 2, last - 1, last}
		// Its servers begin in no order, and UDP tells who is too early.
		for _, i := range append([]int{100, 199}, some...) {
			for _, network := range []string{"tcp", "udp"} {
				lab.Eventually(t, lab.Patience, func() error {
					_, err := s.NS.TryAsk(network, c.At(9000+i), lab.Within(lab.Doubt))
					return err
				})
			}
		}
		for _, i := range some {
			a := s.Remote.Ask(t, "udp", lab.At(lab.HostIP, 20000+i))
			eq(t, "port of the container", a.Local, c.At(9000+i))
		}
		s.Remote.Unanswered(t, "udp", lab.At(lab.HostIP, 20001+last))
		s.Publish(t, fmt.Sprintf("%s:21000-21199:9000-9199", lab.HostIP), c.Name)
		for _, i := range []int{0, 100, 199} {
			a := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 21000+i))
			eq(t, "port of the container", a.Local, c.At(9000+i))
		}
		s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP1, 21000))
		s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 20999))
		s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 21200))
	})
}
