package packet

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// lite is UDP-Lite (RFC 3828) whose checksum covers so many bytes, or all for 0. It covers the pseudo-header in any case.
func lite(src, dst string, coverage int) frame {
	return udp(src, dst).edit(func(b []byte) []byte {
		b[atProto] = unix.IPPROTO_UDPLITE
		binary.BigEndian.PutUint16(b[24:], 0)
		binary.BigEndian.PutUint16(b[24:], ^sum16(b[atIP:atL4], 0))
		l4 := b[atL4:]
		binary.BigEndian.PutUint16(l4[4:], uint16(coverage))
		binary.BigEndian.PutUint16(l4[6:], 0)
		covered := l4
		if coverage > 0 {
			covered = l4[:coverage]
		}
		pseudo := uint32(sum16(b[atSource:atSource+8], unix.IPPROTO_UDPLITE+uint32(len(l4))))
		binary.BigEndian.PutUint16(l4[6:], ^sum16(covered, pseudo))
		return b
	})
}

// testUDPLite: its ports are ports, and its checksum is right after translation, however much it covers.
func testUDPLite(t *testing.T, d *datapath) {
	flows := []string{
		"new local udplite 172.17.0.2:5000>192.0.2.10:7000 = 198.51.100.1:5000>192.0.2.10:7000 neigh up0",
		"new wire udplite 192.0.2.10:7000>198.51.100.1:5000 = 192.0.2.10:7000>172.17.0.2:5000 peer c1",
	}
	var cases []packetCase
	for name, coverage := range map[string]int{"all": 0, "its header": 8, "a part": 14} {
		out, back := lite("172.17.0.2:5000", "192.0.2.10:7000", coverage), lite("192.0.2.10:7000", "198.51.100.1:5000", coverage)
		cases = append(cases,
			packetCase{
				name: "E-18 out, covered " + name, hook: fromContainer("c1"), in: out,
				want: redirected("br0 out", out.from("198.51.100.1:5000").withTTL(63)), flows: flows,
			},
			packetCase{
				name: "E-18 back, covered " + name, before: []sent{{fromContainer("c1"), out}}, hook: fromUplink("up0"), in: back,
				want: redirected("br0 out", back.to("172.17.0.2:5000").withTTL(63).macs(d.w.gateway("c1"))), flows: flows,
			})
	}
	first := lite("172.17.0.2:5000", "192.0.2.10:7000", 0)
	cases = append(cases, packetCase{
		name: "M-1 shorter than its header", hook: fromContainer("c1"), in: first.cut(atL4+6).put16(atTotalLen, 26).refresh(), want: dropped("truncated"),
	})
	d.runCases(t, cases)
	t.Run("E-1 two containers from one port", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), first)
		second := lite("172.17.0.3:5000", "192.0.2.10:7000", 0)
		d.send(t, fromContainer("c2"), second)
		f, ok := d.flow(t, local("udplite", "172.17.0.3:5000", "192.0.2.10:7000"))
		if !ok || bpf.ToPort(f.Sport) == 5000 {
			t.Errorf("the second container's flow: %+v, %v", f, ok)
		}
	})
}
