package packet

import (
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	state "github.com/ebpfnet/ebpfnet/maps"
)

// Offsets in a frame without IP options.
const (
	atEtherType = 12
	atIP        = 14
	atTotalLen  = 16
	atProto     = 23
	atSource    = 26
	atL4        = 34
	atTCPOffset = 46
	atUDPLen    = 38
)

// spoilt is a malformed packet, as a change of an honest one, and the reason that it has to be dropped for.
type spoilt struct {
	name   string
	spoil  func(tcp, udp, ping frame) frame
	reason string
}

// spoiltPackets lists M-1. Each is given packets that would be carried if they were whole.
func spoiltPackets() []spoilt {
	return []spoilt{
		{"runt of a link-layer header", func(f, _, _ frame) frame { return f.cut(14) }, "truncated"},
		{"one byte of an ip header", func(f, _, _ frame) frame { return f.cut(15) }, "truncated"},
		{"ip header cut", func(f, _, _ frame) frame { return f.cut(33) }, "truncated"},
		{"no layer 4 header", func(f, _, _ frame) frame { return f.cut(34) }, "truncated"},
		{"tcp header cut", func(f, _, _ frame) frame { return f.cut(53) }, "truncated"},
		{"total length beyond the frame", func(f, _, _ frame) frame { return f.put16(atTotalLen, 41).refresh() }, "truncated"},
		{"total length 65535", func(f, _, _ frame) frame { return f.put16(atTotalLen, 65535).refresh() }, "truncated"},
		{"total length 0", func(f, _, _ frame) frame { return f.put16(atTotalLen, 0).refresh() }, "ip_header"},
		{"total length 19", func(f, _, _ frame) frame { return f.put16(atTotalLen, 19).refresh() }, "ip_header"},
		{"total length without layer 4", func(f, _, _ frame) frame { return f.put16(atTotalLen, 20).refresh() }, "truncated"},
		{"total length cuts tcp", func(f, _, _ frame) frame { return f.put16(atTotalLen, 39).refresh() }, "truncated"},
		{"total length cuts udp", func(_, f, _ frame) frame { return f.put16(atTotalLen, 27).refresh() }, "truncated"},
		{"total length cuts icmp", func(_, _, f frame) frame { return f.put16(atTotalLen, 27).refresh() }, "truncated"},
		{"version 6", func(f, _, _ frame) frame { return f.put8(atIP, 0x65) }, "ip_header"},
		{"version 0", func(f, _, _ frame) frame { return f.put8(atIP, 0x05) }, "ip_header"},
		{"header length 4", func(f, _, _ frame) frame { return f.put8(atIP, 0x44) }, "ip_header"},
		{"header length 0", func(f, _, _ frame) frame { return f.put8(atIP, 0x40) }, "ip_header"},
		{"header length beyond the packet", func(f, _, _ frame) frame { return f.put8(atIP, 0x4f) }, "ip_header"},
		{"header length leaves no layer 4", func(f, _, _ frame) frame { return f.put8(atIP, 0x4a) }, "truncated"},
		{"tcp data offset 4", func(f, _, _ frame) frame { return f.put8(atTCPOffset, 0x40) }, "l4_header"},
		{"tcp data offset 0", func(f, _, _ frame) frame { return f.put8(atTCPOffset, 0) }, "l4_header"},
		{"tcp data offset beyond the packet", func(f, _, _ frame) frame { return f.put8(atTCPOffset, 0x60) }, "l4_header"},
		{"udp length 0", func(_, f, _ frame) frame { return f.put16(atUDPLen, 0) }, "l4_header"},
		{"udp length 7", func(_, f, _ frame) frame { return f.put16(atUDPLen, 7) }, "l4_header"},
		{"udp length beyond the packet", func(_, f, _ frame) frame { return f.put16(atUDPLen, 21) }, "l4_header"},
		{"udp header cut", func(_, f, _ frame) frame { return f.cut(41).put16(atTotalLen, 27).refresh() }, "truncated"},
		{"icmp header cut", func(_, _, f frame) frame { return f.cut(41).put16(atTotalLen, 27).refresh() }, "truncated"},
		{"land", func(f, _, _ frame) frame { return f.from(f.dst) }, "martian_source"},
		{"source 0.0.0.0", func(f, _, _ frame) frame { return f.from("0.0.0.0:40000") }, "martian_source"},
		{"source 0.1.2.3", func(f, _, _ frame) frame { return f.from("0.1.2.3:40000") }, "martian_source"},
		{"source multicast", func(f, _, _ frame) frame { return f.from("224.0.0.1:40000") }, "martian_source"},
		{"source broadcast", func(f, _, _ frame) frame { return f.from("255.255.255.255:40000") }, "martian_source"},
		{"H-5 source 127.0.0.1", func(f, _, _ frame) frame { return f.from("127.0.0.1:40000") }, "loopback"},
		{"H-5 destination 127.0.0.1", func(f, _, _ frame) frame { return f.to("127.0.0.1:80") }, "loopback"},
		{"loose source route", func(f, _, _ frame) frame { return f.ipOptions([]byte{131, 7, 4, 10, 0, 0, 1, 0}) }, "source_route"},
		{"strict source route", func(f, _, _ frame) frame { return f.ipOptions([]byte{137, 7, 4, 10, 0, 0, 1, 0}) }, "source_route"},
		{"source route behind others", func(f, _, _ frame) frame {
			return f.ipOptions([]byte{1, 1, 1, 1, 148, 4, 0, 0, 131, 7, 4, 10, 0, 0, 1, 0})
		}, "source_route"},
		{"option of length 0", func(f, _, _ frame) frame { return f.ipOptions([]byte{7, 0, 0, 0}) }, "source_route"},
		{"option of length 1", func(f, _, _ frame) frame { return f.ipOptions([]byte{7, 1, 0, 0}) }, "source_route"},
		{"option longer than the header", func(f, _, _ frame) frame { return f.ipOptions([]byte{7, 11, 4, 0}) }, "source_route"},
		{"option without a length", func(f, _, _ frame) frame { return f.ipOptions([]byte{1, 1, 1, 7}) }, "source_route"},
	}
}

// honest gives whole packets that a hook carries: each is a first packet of a flow.
func honest(h hook) (ftcp, fudp, fping frame) {
	switch h.prog {
	case "from_uplink":
		return tcp("192.0.2.10:40000", "198.51.100.1:8080", "S"), udp("192.0.2.10:40000", "198.51.100.1:8080"), echo("192.0.2.10", "198.51.100.1", 7)
	case "to_bridge":
		return tcp("172.17.0.1:40000", "172.17.0.2:80", "S"), udp("172.17.0.1:40000", "172.17.0.2:53"), echo("172.17.0.1", "172.17.0.2", 7)
	case "from_bridge":
		return tcp("172.17.0.9:40000", "192.0.2.10:80", "S"), udp("172.17.0.9:40000", "192.0.2.10:53"), echo("172.17.0.9", "192.0.2.10", 7)
	default:
		return tcp("172.17.0.2:40000", "192.0.2.10:80", "S"), udp("172.17.0.2:40000", "192.0.2.10:53"), echo("172.17.0.2", "192.0.2.10", 7)
	}
}

func publishWeb(s *state.State) {
	publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80")
	publish(s, "udp", "0.0.0.0:8080", "172.17.0.2:53")
}

// M-1: a malformed packet is dropped under a reason on every hook, and enters nothing.
func testMalformed(t *testing.T, d *datapath) {
	for _, h := range []hook{fromContainer("c1"), fromUplink("up0"), fromBridge("br0"), toBridge("br0")} {
		ftcp, fudp, fping := honest(h)
		var cases []packetCase
		for _, s := range spoiltPackets() {
			// The host's stack has looked at the source and the options of what it sends, and its own sockets may have loopback's address.
			if h.prog == "to_bridge" && (s.reason == "martian_source" || s.reason == "loopback" || s.reason == "source_route") {
				continue
			}
			cases = append(cases, packetCase{
				name: fmt.Sprintf("M-1 %s %s", h.prog, s.name), change: publishWeb, hook: h, in: s.spoil(ftcp, fudp, fping), want: dropped(s.reason),
			})
		}
		d.runCases(t, cases)
	}
}

// M-1: what is no plain IPv4 is the bridge's and the stack's.
func testNotIPv4(t *testing.T, d *datapath) {
	for _, h := range []hook{fromContainer("c1"), fromUplink("up0"), fromBridge("br0"), toBridge("br0")} {
		f, _, _ := honest(h)
		tagged := func(tags ...uint16) frame {
			return f.edit(func(b []byte) []byte {
				out := append([]byte(nil), b[:atEtherType]...)
				for _, tag := range tags {
					out = append(out, byte(tag>>8), byte(tag), 0, 5)
				}
				return append(out, b[atEtherType:]...)
			})
		}
		var cases []packetCase
		for name, in := range map[string]frame{
			"G-3 arp":                  f.put16(atEtherType, unix.ETH_P_ARP),
			"G-3 ipv6":                 f.put16(atEtherType, unix.ETH_P_IPV6),
			"G-3 lldp":                 f.put16(atEtherType, 0x88cc),
			"G-3 mpls":                 f.put16(atEtherType, 0x8847),
			"M-1 802.1q":               tagged(0x8100),
			"M-1 802.1ad double tags":  tagged(0x88a8, 0x8100),
			"M-1 runt of another kind": f.put16(atEtherType, 0x88cc).cut(14),
			"ieee 802.3 length":        f.put16(atEtherType, 40),
		} {
			if name == "G-3 arp" && h.prog == "from_container" {
				in = arp("0a:00:00:00:17:02", "172.17.0.2") // what a container says there is looked at
			}
			cases = append(cases, packetCase{name: name + " " + h.prog, hook: h, in: in, want: passed("not_ipv4")})
		}
		d.runCases(t, cases)
	}
}

// M-2: what a device puts behind a short frame does not count.
func testPadding(t *testing.T, d *datapath) {
	small := udp("172.17.0.2:40000", "192.0.2.10:53").data([]byte{1})
	flows := []string{
		"new local udp 172.17.0.2:40000>192.0.2.10:53 = 198.51.100.1:40000>192.0.2.10:53 neigh up0",
		"new wire udp 192.0.2.10:53>198.51.100.1:40000 = 192.0.2.10:53>172.17.0.2:40000 peer c1",
	}
	d.runCases(t, []packetCase{
		{
			name: "M-2 udp out", hook: fromContainer("c1"), in: small.pad(60),
			want:  redirected("br0 out", small.from("198.51.100.1:40000").withTTL(63).pad(60)),
			flows: flows,
		},
		{
			name:   "M-2 udp answer",
			before: []sent{{fromContainer("c1"), small}},
			hook:   fromUplink("up0"),
			in:     udp("192.0.2.10:53", "198.51.100.1:40000").data([]byte{2}).pad(60),
			want: redirected("br0 out",
				udp("192.0.2.10:53", "172.17.0.2:40000").data([]byte{2}).withTTL(63).macs(d.w.gateway("c1")).pad(60)),
			flows: flows,
		},
		{
			name: "M-2 tcp out", hook: fromContainer("c1"), in: tcp("172.17.0.2:40000", "192.0.2.10:80", "S").pad(60),
			want:  redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "S").withTTL(63).pad(60)),
			flows: opened(),
		},
		{
			name: "D-1 M-2 udp shorter than its datagram", hook: fromContainer("c1"), in: small.data([]byte{1, 2, 3, 4}).put16(atUDPLen, 10).put16(40, 0),
			want:  redirected("br0 out", small.from("198.51.100.1:40000").data([]byte{1, 2, 3, 4}).withTTL(63).put16(atUDPLen, 10).put16(40, 0)),
			flows: flows,
		},
		{
			name: "ip options that ask for nothing", hook: fromContainer("c1"),
			in:    tcp("172.17.0.2:40000", "192.0.2.10:80", "S").ipOptions([]byte{148, 4, 0, 0, 1, 1, 1, 0}),
			want:  redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "S").withTTL(63).ipOptions([]byte{148, 4, 0, 0, 1, 1, 1, 0})),
			flows: opened(),
		},
		{
			name: "as many ip options as there can be", hook: fromContainer("c1"),
			in:    tcp("172.17.0.2:40000", "192.0.2.10:80", "S").ipOptions(make([]byte, 40)),
			want:  redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "S").withTTL(63).ipOptions(make([]byte, 40))),
			flows: opened(),
		},
	})
}

// M-1: a malformed packet does not pass because a whole one of its tuple did.
func testMalformedKnown(t *testing.T, d *datapath) {
	ftcp, fudp, fping := honest(fromContainer("c1"))
	for _, s := range spoiltPackets() {
		t.Run("M-1 known flow, "+s.name, func(t *testing.T) {
			d.reset(t)
			for _, f := range []frame{ftcp, fudp, fping} {
				d.send(t, fromContainer("c1"), f)
			}
			before := d.flows(t)
			d.expect(t, fromContainer("c1"), s.spoil(ftcp, fudp, fping), dropped(s.reason))
			d.expectFlows(t, before...)
		})
	}
}

// B-6: ICMP that has no flow is not translated.
func testOtherICMP(t *testing.T, d *datapath) {
	var cases []packetCase
	for name, kind := range map[string]uint8{
		"redirect": layers.ICMPv4TypeRedirect, "router advertisement": layers.ICMPv4TypeRouterAdvertisement, "unknown type": 99,
	} {
		cases = append(cases, packetCase{
			name: "B-6 " + name + " from the wire", hook: fromUplink("up0"), in: icmp("198.51.100.254", "198.51.100.1", kind, 7), want: passed("not_ours"),
		})
	}
	d.runCases(t, cases)
}
