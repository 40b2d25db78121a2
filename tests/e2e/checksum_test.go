package e2e

import (
	"encoding/binary"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// D-1: a UDP checksum of 0 says that there is none, and stays 0 through both translations; one that comes out as 0 is sent as 0xffff.
func TestUDPChecksumZero(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80/udp")
		inside, far := c.NS.Capture(t, "eth0"), s.Remote.Capture(t, "far")
		rr := s.Router.Device(t, "rr").HardwareAddr
		remote := s.Remote.Device(t, "far").HardwareAddr
		self := c.NS.Device(t, "eth0").HardwareAddr

		out := lab.Way{SrcMAC: self, DstMAC: s.gateway(t), Src: lab.AddrPort(c.IP.String(), 4001), Dst: lab.AddrPort(lab.RemoteIP, 7001)}
		c.NS.Inject(t, "eth0", out.UDPWithout(t, []byte("out without")))
		p := far.Find(t, "masqueraded datagram", carrying("out without"))
		eq(t, "source", p.Source().Addr().String(), lab.HostIP)
		eq(t, "checksum through masquerade", p.UDP.Checksum, 0)
		back := lab.Way{SrcMAC: remote, DstMAC: rr, Src: out.Dst, Dst: p.Source()}
		s.Remote.Inject(t, "far", back.UDPWithout(t, []byte("back without")))
		p = inside.Find(t, "answer", carrying("back without"))
		eq(t, "answer's destination", p.Destination(), out.Src)
		eq(t, "checksum through the way back", p.UDP.Checksum, 0)

		in := lab.Way{SrcMAC: remote, DstMAC: rr, Src: lab.AddrPort(lab.RemoteIP, 4002), Dst: lab.AddrPort(lab.HostIP, 8080)}
		s.Remote.Inject(t, "far", in.UDPWithout(t, []byte("in without")))
		p = inside.Find(t, "datagram to the published port", func(p lab.Packet) bool { return !p.Sent && carrying("in without")(p) })
		eq(t, "destination", p.Destination().String(), c.At(80))
		eq(t, "checksum through the published port", p.UDP.Checksum, 0)
		// The answer is made by hand too: the server's own has a checksum.
		reply := lab.Way{SrcMAC: self, DstMAC: s.gateway(t), Src: p.Destination(), Dst: in.Src}
		c.NS.Inject(t, "eth0", reply.UDPWithout(t, []byte("reply without")))
		p = far.Find(t, "reply", carrying("reply without"))
		eq(t, "reply's source", p.Source(), in.Dst)
		eq(t, "reply's checksum", p.UDP.Checksum, 0)

		// The word at the end makes the checksum of what arrives 0.
		after := in
		after.Dst = lab.AddrPort(c.IP.String(), 80)
		s.Remote.Inject(t, "far", in.UDP(t, zeroing(t, after, "in to zero!!")))
		p = inside.Find(t, "datagram", func(p lab.Packet) bool { return !p.Sent && carrying("in to zero!!")(p) })
		eq(t, "checksum that comes out as 0, in", p.UDP.Checksum, 0xffff)
		after = out
		after.Src = lab.AddrPort(lab.HostIP, 4001)
		c.NS.Inject(t, "eth0", out.UDP(t, zeroing(t, after, "out to zero!")))
		p = far.Find(t, "datagram", carrying("out to zero!"))
		eq(t, "port on the wire", p.Source().Port(), 4001)
		eq(t, "checksum that comes out as 0, out", p.UDP.Checksum, 0xffff)
		sound(t, far)
		sound(t, inside)
	})
}

// zeroing is a payload, of even length, with which a datagram on that way has the checksum 0.
func zeroing(t *testing.T, w lab.Way, text string) []byte {
	t.Helper()
	payload := append([]byte(text), 0, 0)
	frame := w.UDP(t, payload)
	copy(payload[len(text):], frame[14+20+6:14+20+8])
	if check := binary.BigEndian.Uint16(w.UDP(t, payload)[14+20+6:]); check != 0 && check != 0xffff {
		t.Fatalf("the payload makes the checksum %#x", check)
	}
	return payload
}

// D-2: checksums that are left to hardware by the sender come out right, whoever finishes them, and finished ones are kept right: with
// offload off at the receiver every one is verified.
func TestChecksumOffload(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "b")
		s.Remote.Serve(t, "far", ":7000")
		for _, on := range []bool{true, false} {
			t.Run(map[bool]string{true: "left to hardware", false: "finished"}[on], func(t *testing.T) {
				// Whatever the sender does, the wire is finished and the receiver looks.
				s.NS.Offload(t, "up0", false)
				s.Remote.Offload(t, "far", false)
				s.Router.Offload(t, "r0", false)
				if !on {
					a.NS.Offload(t, "eth0", false)
					b.NS.Offload(t, "eth0", false)
				}
				captures := map[string]*lab.Capture{
					"a": a.NS.Capture(t, "eth0"), "b": b.NS.Capture(t, "eth0"), "far": s.Remote.Capture(t, "far"), "host": s.NS.Capture(t, "lo"),
				}
				both(t, func(t *testing.T, network string) {
					for _, size := range []int{0, 500, 1001} {
						a.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000), lab.Size(size))
						s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080), lab.Size(size))
						b.NS.Ask(t, network, a.At(80), lab.Size(size))
						b.NS.Ask(t, network, lab.At(lab.HostIP, 8080), lab.Size(size))
						a.NS.Ask(t, network, lab.At(lab.HostIP, 8080), lab.Size(size))
						s.NS.Ask(t, network, lab.At(lab.HostIP, 8080), lab.Size(size))
						s.NS.Ask(t, network, a.At(80), lab.Size(size))
					}
				})
				for _, name := range []string{"a", "b", "far"} {
					sound(t, captures[name])
				}
			})
		}
	})
}

// D-4: segments of tens of kilobytes pass through each translation in one piece, and arrive whole.
func TestLargeSegments(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a", "-p", "8080:80"), s.Run(t, "b")
		s.Remote.Serve(t, "far", ":7000")
		const size = 3 << 20
		want := lab.BulkDigest(size)
		for _, c := range []struct {
			name   string
			from   *lab.Netns
			to     string
			path   string
			arrive func(t *testing.T) *lab.Capture
		}{
			{"masquerade", b.NS, lab.At(lab.RemoteIP, 7000), "out", func(t *testing.T) *lab.Capture { return s.Remote.Capture(t, "far") }},
			{"published port", s.Remote, lab.At(lab.HostIP, 8080), "in", func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }},
			{"neighbour", b.NS, a.At(80), "local", func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }},
			{"hairpin", b.NS, lab.At(lab.HostIP, 8080), "local", func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }},
			{"itself", a.NS, lab.At(lab.HostIP, 8080), "local", func(t *testing.T) *lab.Capture { return a.NS.Capture(t, "eth0") }},
		} {
			t.Run(c.name, func(t *testing.T) {
				capture := c.arrive(t)
				s.carried(t, c.path, 20, func() {
					client := c.from.Dial(t, "tcp", c.to)
					if got, err := client.Sink(size, lab.Patience); err != nil || got != want {
						t.Errorf("there: %q %v, want %q", got, err, want)
					}
					if got, err := client.Source(size, lab.Patience); err != nil || got != want {
						t.Errorf("back: %q %v, want %q", got, err, want)
					}
					client.Ask(t)
				})
				large := func(sent bool) func(lab.Packet) bool {
					return func(p lab.Packet) bool { return p.Sent == sent && p.TCP != nil && len(p.Data) > 9000 }
				}
				capture.Find(t, "large segment there", large(false))
				capture.Find(t, "large segment back", large(true))
				sound(t, capture)
			})
		}
	})
}
