package e2e

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/gopacket/gopacket/layers"
)

// echoes matches echo requests.
func echoes(p lab.Packet) bool {
	return p.ICMP != nil && p.ICMP.TypeCode.Type() == layers.ICMPv4TypeEchoRequest
}

// B-1: two containers that ping the same machine with the same id get only their own answers.
func TestPingSameID(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a"), s.Run(t, "b")
		// Over Docker's rules the first packet to a neighbour that the host does not know yet is the kernel's.
		s.NS.Ping(t, 76).Ping(t, lab.RemoteIP, []byte("the way"))
		pa, pb := a.NS.Ping(t, 77), b.NS.Ping(t, 77)
		wire := s.Router.Capture(t, "r0")
		s.carried(t, "out", 12, func() {
			for range 3 {
				// Both are under way at once, with the same sequence number too.
				seqA, seqB := pa.Send(t, lab.RemoteIP, []byte("from a")), pb.Send(t, lab.RemoteIP, []byte("from b"))
				pa.Expect(t, lab.RemoteIP, seqA, []byte("from a"))
				pb.Expect(t, lab.RemoteIP, seqB, []byte("from b"))
			}
		})
		pa.Silent(t)
		pb.Silent(t)
		sound(t, wire)
		ids := map[uint16]string{}
		for _, p := range wire.All(echoes) {
			eq(t, "source on the wire", p.Source().Addr().String(), lab.HostIP)
			if was, ok := ids[p.ICMP.Id]; ok && was != string(p.Payload()) {
				t.Errorf("id %d is both containers'", p.ICMP.Id)
			}
			ids[p.ICMP.Id] = string(p.Payload())
		}
		eq(t, "ids on the wire", len(ids), 2)
	})
}

// B-2: a container and the host that ping the same machine with the same id both get their own answers.
func TestPingSameIDAsHost(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		for _, first := range []string{"host", "container"} {
			t.Run(first+" first", func(t *testing.T) {
				id := map[string]int{"host": 78, "container": 79}[first]
				ph, pc := s.NS.Ping(t, id), c.NS.Ping(t, id)
				if first == "host" {
					ph.Ping(t, lab.RemoteIP, []byte("host"))
				}
				for range 3 {
					seqC := pc.Send(t, lab.RemoteIP, []byte("container"))
					seqH := ph.Send(t, lab.RemoteIP, []byte("host"))
					pc.Expect(t, lab.RemoteIP, seqC, []byte("container"))
					ph.Expect(t, lab.RemoteIP, seqH, []byte("host"))
				}
				pc.Silent(t)
				ph.Silent(t)
			})
		}
	})
}

// B-4: the host's own address is answered by the host, whatever id a container's ping has left with.
func TestPingHost(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		wire, inside := s.Router.Capture(t, "r0"), c.NS.Capture(t, "eth0")
		c.NS.Ping(t, 80).Ping(t, lab.RemoteIP, []byte("hello"))
		id := wire.Find(t, "echo request", echoes).ICMP.Id
		remote := s.Remote.Ping(t, int(id))
		for range 3 {
			remote.Ping(t, lab.HostIP, []byte("to the host"))
		}
		inside.None(t, "the remote machine's ping", carrying("to the host"))
		// And the container's goes on.
		c.NS.Ping(t, 80).Ping(t, lab.RemoteIP, []byte("again"))
		sound(t, wire)
	})
}
