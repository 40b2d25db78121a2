package parity

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// outward builds packets from a to a port of far, as a's own stack would address them.
func (s *site) outward(t testing.TB, sport, dport int) lab.Way {
	t.Helper()
	return lab.Way{SrcMAC: s.a.NS.Device(t, "eth0").HardwareAddr, DstMAC: s.gate(t), Src: lab.AddrPort(s.a.IP.String(), sport), Dst: lab.AddrPort(lab.RemoteIP, dport)}
}

// inward builds packets from far to a port of the host, as they leave far.
func (s *site) inward(t testing.TB, sport, dport int) lab.Way {
	t.Helper()
	return lab.Way{
		SrcMAC: s.Remote.Device(t, "far").HardwareAddr, DstMAC: s.Router.Device(t, "rr").HardwareAddr,
		Src: lab.AddrPort(lab.RemoteIP, sport), Dst: lab.AddrPort(lab.HostIP, dport),
	}
}

// arrival says how a packet that match accepts arrives.
func (s *site) arrival(c *lab.Capture, match func(lab.Packet) bool) string {
	p, ok := until(c, func(p lab.Packet) bool { return !p.Sent && match(p) })
	if !ok {
		return "does not arrive"
	}
	sums := "right checksums"
	switch {
	case p.Checksums() != nil:
		sums = "a wrong checksum"
	case p.UDP != nil && p.UDP.Checksum == 0:
		sums = "no checksum"
	}
	return fmt.Sprintf("arrives from %s with %s, TTL %d", s.address(p.Source().Addr()), sums, p.IP.TTL)
}

// packetChecks are single packets, as no ordinary socket sends them.
func packetChecks() (list []check) {
	const text = "a datagram for the table"
	out := func(name string, build func(t *testing.T, w lab.Way, text string) []byte) {
		list = append(list, one(name+", outwards", func(t *testing.T, s *site) string {
			text := fmt.Sprintf("%s %d", text, s.port())
			far := s.Remote.Capture(t, "far")
			s.a.NS.Inject(t, "eth0", build(t, s.outward(t, s.port(), farPort), text))
			return s.arrival(far, carrying(text))
		})...)
		list = append(list, one(name+", to a published port", func(t *testing.T, s *site) string {
			text := fmt.Sprintf("%s %d", text, s.port())
			inside := s.web.NS.Capture(t, "eth0")
			s.Remote.Inject(t, "far", build(t, s.inward(t, s.port(), 8080), text))
			return s.arrival(inside, carrying(text))
		})...)
	}
	out("UDP", func(t *testing.T, w lab.Way, text string) []byte { return w.UDP(t, []byte(text)) })
	out("UDP without a checksum", func(t *testing.T, w lab.Way, text string) []byte { return w.UDPWithout(t, []byte(text)) })
	out("UDP with a wrong checksum", func(t *testing.T, w lab.Way, text string) []byte {
		b := w.UDP(t, []byte(text))
		b[14+20+6] ^= 0x55
		return b
	})
	out("TCP with a wrong checksum", func(t *testing.T, w lab.Way, text string) []byte {
		b := append(w.TCP(t, func(p *layers.TCP) { p.SYN, p.Seq = true, 1000 }), text...)
		b[14+2], b[14+3] = byte((len(b)-14)>>8), byte(len(b)-14)
		b[14+20+16] ^= 0x55
		headerSum(b[14:34])
		return b
	})
	out("a wrong header checksum", func(t *testing.T, w lab.Way, text string) []byte {
		b := w.UDP(t, []byte(text))
		b[14+10] ^= 0x55
		return b
	})
	out("UDP with a length that is too long", func(t *testing.T, w lab.Way, text string) []byte {
		b := w.UDP(t, []byte(text))
		b[14+20+5] += 9
		return b
	})
	out("IP options that do nothing", func(t *testing.T, w lab.Way, text string) []byte { return withOptions(t, w, []byte{1, 1, 1, 0}, text) })
	out("a source route", func(t *testing.T, w lab.Way, text string) []byte {
		return withOptions(t, w, append([]byte{131, 7, 4}, append(w.Dst.Addr().AsSlice(), 0)...), text)
	})
	list = append(list, one("type of service", func(t *testing.T, s *site) string {
		far := s.Remote.Capture(t, "far")
		client := s.dial(t, s.a.NS, "udp", lab.At(lab.RemoteIP, farPort))
		onSocket(t, client.Conn(), func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, 0x48) })
		text := fmt.Sprintf("tos %d", s.port())
		if answer := s.bare(t, client, []byte(text)); answer != "answered" {
			return answer
		}
		p, _ := until(far, carrying(text))
		return fmt.Sprintf("%#x", p.IP.TOS)
	})...)
	list = append(list, one("TTL between neighbours", func(t *testing.T, s *site) string {
		inside := s.b.NS.Capture(t, "eth0")
		text := fmt.Sprintf("ttl %d", s.port())
		s.bare(t, s.dial(t, s.a.NS, "udp", s.b.At(80)), []byte(text))
		return s.arrival(inside, carrying(text))
	})...)
	list = append(list, one("TTL from the host", func(t *testing.T, s *site) string {
		inside := s.b.NS.Capture(t, "eth0")
		text := fmt.Sprintf("ttl %d", s.port())
		s.bare(t, s.dial(t, s.NS, "udp", s.b.At(80)), []byte(text))
		return s.arrival(inside, carrying(text))
	})...)
	for ttl := range 2 {
		list = append(list, one(fmt.Sprintf("UDP to a published port with TTL %d", ttl+1), func(t *testing.T, s *site) string {
			far := s.Remote.Capture(t, "far")
			w := s.inward(t, s.port(), 8080)
			w.TTL = uint8(ttl + 1)
			s.Remote.Inject(t, "far", w.UDP(t, []byte(text)))
			return s.told(far, int(w.Src.Port()), w.Dst.String())
		})...)
	}
	for _, r := range []struct {
		name string
		set  func(*layers.TCP)
	}{
		{"an acknowledgement", func(p *layers.TCP) { p.ACK, p.Seq, p.Ack = true, 1000, 2000 }},
		{"a SYN and acknowledgement", func(p *layers.TCP) { p.SYN, p.ACK, p.Seq, p.Ack = true, true, 1000, 2000 }},
		{"a FIN", func(p *layers.TCP) { p.FIN, p.ACK, p.Seq, p.Ack = true, true, 1000, 2000 }},
		{"a reset", func(p *layers.TCP) { p.RST, p.Seq = true, 1000 }},
	} {
		list = append(list, one(r.name+" of no connection to a published port", func(t *testing.T, s *site) string {
			wire := s.Remote.Capture(t, "far")
			w := s.inward(t, s.port(), 8080)
			s.Remote.Inject(t, "far", w.TCP(t, r.set))
			return s.replyTo(wire, w)
		})...)
		list = append(list, one(r.name+" of no connection, outwards", func(t *testing.T, s *site) string {
			wire, far := s.a.NS.Capture(t, "eth0"), s.Remote.Capture(t, "far")
			w := s.outward(t, s.port(), farPort)
			s.a.NS.Inject(t, "eth0", w.TCP(t, r.set))
			arrival := s.arrival(far, func(p lab.Packet) bool {
				return p.TCP != nil && p.Source().Port() == w.Src.Port() && p.Destination() == w.Dst
			})
			return arrival + "; " + s.replyTo(wire, w)
		})...)
	}
	list = append(list, one("SCTP", func(t *testing.T, s *site) string {
		return s.exchange(t, 132, func(_, _ netip.Addr, sport, dport int) []byte { return sctpInit(sport, dport) }, func(_, _ netip.Addr, b []byte) bool {
			if len(b) < 12 {
				return false
			}
			c := append([]byte(nil), b...)
			copy(c[8:12], make([]byte, 4))
			return binary.LittleEndian.Uint32(b[8:]) == crc32.Checksum(c, crc32.MakeTable(crc32.Castagnoli))
		})
	})...)
	list = append(list, one("a protocol without ports", func(t *testing.T, s *site) string {
		return s.exchange(t, 253, func(_, _ netip.Addr, sport, dport int) []byte { return ports(sport, dport, []byte("experiment")) },
			func(_, _ netip.Addr, _ []byte) bool { return true })
	})...)
	list = append(list, one("UDP-Lite", func(t *testing.T, s *site) string {
		// RFC 3828: a length of 0 covers everything.
		return s.exchange(t, 136, func(src, dst netip.Addr, sport, dport int) []byte {
			b := ports(sport, dport, []byte{0, 0, 0, 0, 'l', 'i', 't', 'e'})
			binary.BigEndian.PutUint16(b[6:], ^pseudoSum(src, dst, 136, b))
			return b
		}, func(src, dst netip.Addr, b []byte) bool { return pseudoSum(src, dst, 136, b) == 0xffff })
	})...)
	return list
}

// pseudoSum is the sum of a pseudo-header and of what follows it, of even length.
func pseudoSum(src, dst netip.Addr, proto int, b []byte) uint16 {
	sum := uint32(proto) + uint32(len(b))
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), b} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// withOptions is a datagram with IP options.
func withOptions(t *testing.T, w lab.Way, options []byte, text string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 7, Protocol: layers.IPProtocolUDP, SrcIP: w.Src.Addr().AsSlice(), DstIP: w.Dst.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(w.Src.Port()), DstPort: layers.UDPPort(w.Dst.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := lab.Frame(t, &layers.Ethernet{SrcMAC: w.SrcMAC, DstMAC: w.DstMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(text))
	out := append(append(append([]byte(nil), b[:34]...), options...), b[34:]...)
	out[14] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(out[16:], uint16(len(out)-14))
	headerSum(out[14 : 34+len(options)])
	return out
}

// headerSum writes an IPv4 header's checksum.
func headerSum(h []byte) {
	h[10], h[11] = 0, 0
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
}

// replyTo says what a TCP segment is answered with.
func (s *site) replyTo(wire *lab.Capture, w lab.Way) string {
	p, ok := until(wire, func(p lab.Packet) bool { return !p.Sent && p.TCP != nil && p.Destination() == w.Src })
	if !ok {
		return "no answer"
	}
	kind := "a segment"
	switch {
	case p.TCP.RST:
		kind = "reset"
	case p.TCP.SYN && p.TCP.ACK:
		kind = "a handshake"
	}
	from := "what was dialled"
	if p.Source() != w.Dst {
		from = s.address(p.Source().Addr())
	}
	return kind + " from " + from
}

func ports(sport, dport int, rest []byte) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(sport)), uint16(dport)), rest...)
}

// sctpInit is an INIT chunk (RFC 9260 section 3.3.2) in a packet with its CRC32c.
func sctpInit(sport, dport int) []byte {
	b := ports(sport, dport, make([]byte, 8+20))
	b[12], b[15] = 1, 20
	binary.BigEndian.PutUint32(b[16:], 0x1234)
	binary.BigEndian.PutUint32(b[20:], 65535)
	binary.BigEndian.PutUint16(b[24:], 1)
	binary.BigEndian.PutUint16(b[26:], 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// exchange sends a packet of a protocol from a to far by raw sockets, and one with the ports the other way round back.
func (s *site) exchange(t *testing.T, proto int, build func(src, dst netip.Addr, sport, dport int) []byte, right func(src, dst netip.Addr, b []byte) bool) string {
	t.Helper()
	inside, outside := s.raw(t, s.a.NS, fmt.Sprint(proto)), s.raw(t, s.Remote, fmt.Sprint(proto))
	sport, dport, far := s.port(), farPort, netip.MustParseAddr(lab.RemoteIP)
	if _, err := inside.WriteTo(build(s.a.IP, far, sport, dport), &net.IPAddr{IP: far.AsSlice()}); err != nil {
		return reason(err)
	}
	from, b, err := heard(outside, func(b []byte) bool { return len(b) >= 4 && int(binary.BigEndian.Uint16(b[2:])) == dport })
	if err != nil {
		return "does not arrive"
	}
	out := "far saw " + s.address(from)
	if !right(from, far, b) {
		out += ", with a wrong checksum"
	}
	if _, err := outside.WriteTo(build(far, from, dport, int(binary.BigEndian.Uint16(b))), &net.IPAddr{IP: from.AsSlice()}); err != nil {
		return out + ", cannot answer: " + reason(err)
	}
	from, b, err = heard(inside, func(b []byte) bool { return len(b) >= 4 && int(binary.BigEndian.Uint16(b[2:])) == sport })
	if err != nil {
		return out + ", no answer arrives"
	}
	if out += ", answered by " + s.address(from); !right(from, s.a.IP, b) {
		out += ", with a wrong checksum"
	}
	return out
}

// spoof sends a datagram from a with another's address, and says how it arrives at far.
func (s *site) spoof(t *testing.T, src netip.Addr) string {
	t.Helper()
	far := s.Remote.Capture(t, "far")
	text := fmt.Sprintf("spoofed %d", s.port())
	w := s.outward(t, s.port(), farPort)
	w.Src = netip.AddrPortFrom(src, w.Src.Port())
	s.a.NS.Inject(t, "eth0", w.UDP(t, []byte(text)))
	return s.arrival(far, carrying(text))
}
