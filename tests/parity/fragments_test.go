package parity

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

// pieces cuts a frame with an IPv4 packet without options into fragments of that many bytes of payload, a multiple of 8.
func pieces(frame []byte, size int, id uint16) [][]byte {
	head, body := frame[:34], frame[34:]
	var list [][]byte
	for off := 0; off < len(body); off += size {
		end := min(off+size, len(body))
		f := append(append([]byte(nil), head...), body[off:end]...)
		field := uint16(off / 8)
		if end < len(body) {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
		binary.BigEndian.PutUint16(f[18:], id)
		binary.BigEndian.PutUint16(f[20:], field)
		headerSum(f[14:34])
		list = append(list, f)
	}
	return list
}

// fragmentChecks are datagrams that do not fit into a packet.
func fragmentChecks() (list []check) {
	for _, size := range []int{1473, 1475, 4000, 65000} {
		list = append(list, one(fmt.Sprintf("a datagram of %d bytes outwards", size), func(t *testing.T, s *site) string {
			return s.ask(s.a.NS, "udp", lab.At(lab.RemoteIP, farPort), lab.Size(size))
		})...)
		list = append(list, one(fmt.Sprintf("a datagram of %d bytes to a published port", size), func(t *testing.T, s *site) string {
			return s.ask(s.Remote, "udp", lab.At(lab.HostIP, 8080), lab.Size(size))
		})...)
	}
	list = append(list, one("a datagram of 4000 bytes to a neighbour's published port", func(t *testing.T, s *site) string {
		return s.ask(s.a.NS, "udp", lab.At(lab.HostIP, 8080), lab.Size(4000))
	})...)
	list = append(list, one("a datagram of 4000 bytes to a neighbour", func(t *testing.T, s *site) string {
		return s.ask(s.a.NS, "udp", s.b.At(80), lab.Size(4000))
	})...)
	list = append(list, one("a datagram of 4000 bytes to the host", func(t *testing.T, s *site) string {
		return s.ask(s.a.NS, "udp", lab.At(lab.GatewayIP, hostPort), lab.Size(4000))
	})...)
	list = append(list, one("a datagram of 4000 bytes from the host to 127.0.0.1", func(t *testing.T, s *site) string {
		return s.ask(s.NS, "udp", lab.At("127.0.0.1", 8080), lab.Size(4000))
	})...)
	for _, o := range []struct {
		name  string
		order func([][]byte) [][]byte
	}{
		{"in order", func(p [][]byte) [][]byte { return p }},
		{"the last first", func(p [][]byte) [][]byte { slices.Reverse(p); return p }},
		{"the first in the middle", func(p [][]byte) [][]byte { p[0], p[1] = p[1], p[0]; return p }},
		{"one of them twice", func(p [][]byte) [][]byte { return append([][]byte{p[0], p[1]}, p[1:]...) }},
		{"one of them missing", func(p [][]byte) [][]byte { return append(p[:1:1], p[2:]...) }},
	} {
		list = append(list, one("pieces outwards, "+o.name, func(t *testing.T, s *site) string {
			conn := s.a.NS.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
			w := s.outward(t, conn.LocalAddr().(*net.UDPAddr).Port, farPort)
			return s.inPieces(t, s.a.NS, "eth0", conn, w, o.order)
		})...)
		list = append(list, one("pieces to a published port, "+o.name, func(t *testing.T, s *site) string {
			conn := s.Remote.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
			w := s.inward(t, conn.LocalAddr().(*net.UDPAddr).Port, 8080)
			return s.inPieces(t, s.Remote, "far", conn, w, o.order)
		})...)
	}
	list = append(list, one("two containers' pieces with one id", func(t *testing.T, s *site) string {
		id := uint16(s.port())
		var conns [2]*net.UDPConn
		var frags [2][][]byte
		for i, c := range []*lab.Container{s.a, s.b} {
			conns[i] = c.NS.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
			w := s.outward(t, conns[i].LocalAddr().(*net.UDPAddr).Port, farPort)
			w.SrcMAC, w.Src = c.NS.Device(t, "eth0").HardwareAddr, lab.AddrPort(c.IP.String(), int(w.Src.Port()))
			frags[i] = pieces(w.UDP(t, echoText(i, 4000)), 1400, id)
		}
		for piece := range frags[0] {
			s.a.NS.Inject(t, "eth0", frags[0][piece])
			s.b.NS.Inject(t, "eth0", frags[1][piece])
		}
		return s.reply(t, conns[0], echoText(0, 4000)) + "; " + s.reply(t, conns[1], echoText(1, 4000))
	})...)
	return list
}

func echoText(i, size int) []byte {
	b := make([]byte, size)
	for j := range b {
		b[j] = byte('a' + (i*7+j/3)%26)
	}
	return b
}

// inPieces sends a datagram in pieces past a namespace's stack, whose socket then gets the answer.
func (s *site) inPieces(t *testing.T, ns *lab.Netns, dev string, conn *net.UDPConn, w lab.Way, order func([][]byte) [][]byte) string {
	t.Helper()
	ns.InjectInOrder(t, dev, order(pieces(w.UDP(t, echoText(3, 4000)), 1400, uint16(s.port())))...)
	return s.reply(t, conn, echoText(3, 4000))
}

// reply waits for the answer to a payload, and says whether the server got the whole of it.
func (s *site) reply(t *testing.T, conn *net.UDPConn, payload []byte) string {
	t.Helper()
	a, err := echo.Receive(conn, payload, patience)
	if err != nil {
		return reason(err)
	}
	return s.answer(a)
}
