package packet

import (
	"encoding/binary"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

const dockerRules = bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES

// overRules puts Docker's own rules behind every bridge.
func (w *world) overRules(s *state.State) {
	for _, name := range []string{"br0", "br1", "br2"} {
		w.setBridge(s, name, dockerRules, 0)
	}
}

// opened is the flow of a container's connection to a remote machine, not answered yet.
func opened() []string {
	return []string{
		"new local tcp 172.17.0.2:40000>192.0.2.10:80 = 198.51.100.1:40000>192.0.2.10:80 neigh up0",
		"new wire tcp 192.0.2.10:80>198.51.100.1:40000 = 192.0.2.10:80>172.17.0.2:40000 peer c1",
	}
}

// testOut: from a container to outside, and the answers.
func testOut(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	first := []sent{{fromContainer("c1"), syn}}
	d.runCases(t, []packetCase{
		{
			name:  "E-18 tcp keeps its port",
			hook:  fromContainer("c1"),
			in:    syn,
			want:  redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)),
			flows: opened(),
		},
		{
			name:   "E-18 second packet",
			before: first,
			hook:   fromContainer("c1"),
			in:     syn,
			want:   redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)),
			flows:  opened(),
		},
		{
			name:   "H-1 G-8 answer",
			before: first,
			hook:   fromUplink("up0"),
			in:     tcp("192.0.2.10:80", "198.51.100.1:40000", "SA"),
			want:   redirected("br0 out", tcp("192.0.2.10:80", "172.17.0.2:40000", "SA").withTTL(63).macs(d.w.gateway("c1"))),
			flows:  opened(),
		},
		{
			name:   "E-5 another machine's packet to the same port is no answer",
			before: first,
			hook:   fromUplink("up0"),
			in:     tcp("192.0.2.11:80", "198.51.100.1:40000", "SA"),
			want:   passed("not_ours"),
			flows:  opened(),
		},
		{
			name: "E-18 a port below 1024 stays",
			hook: fromContainer("c1"),
			in:   udp("172.17.0.2:123", "192.0.2.10:123"),
			want: redirected("br0 out", udp("198.51.100.1:123", "192.0.2.10:123").withTTL(63)),
			flows: []string{
				"new local udp 172.17.0.2:123>192.0.2.10:123 = 198.51.100.1:123>192.0.2.10:123 neigh up0",
				"new wire udp 192.0.2.10:123>198.51.100.1:123 = 192.0.2.10:123>172.17.0.2:123 peer c1",
			},
		},
		{
			name: "D-1 udp checksum 0 stays 0",
			hook: fromContainer("c1"),
			in:   udp("172.17.0.2:53", "192.0.2.10:53").noChecksum(),
			want: redirected("br0 out", udp("198.51.100.1:53", "192.0.2.10:53").withTTL(63).noChecksum()),
			flows: []string{
				"new local udp 172.17.0.2:53>192.0.2.10:53 = 198.51.100.1:53>192.0.2.10:53 neigh up0",
				"new wire udp 192.0.2.10:53>198.51.100.1:53 = 192.0.2.10:53>172.17.0.2:53 peer c1",
			},
		},
		{
			name: "ping",
			hook: fromContainer("c1"),
			in:   echo("172.17.0.2", "192.0.2.10", 7),
			want: redirected("br0 out", echo("198.51.100.1", "192.0.2.10", 7).withTTL(63)),
			flows: []string{
				"new local icmp 172.17.0.2:7>192.0.2.10:0 = 198.51.100.1:7>192.0.2.10:0 neigh up0",
				"new wire icmp 192.0.2.10:0>198.51.100.1:7 = 192.0.2.10:0>172.17.0.2:7 peer c1",
			},
		},
		{
			name:   "B-4 a remote machine pings the host with a container's id",
			before: []sent{{fromContainer("c1"), echo("172.17.0.2", "192.0.2.10", 7)}},
			hook:   fromUplink("up0"),
			in:     echo("192.0.2.10", "198.51.100.1", 7),
			want:   passed("not_ours"),
			flows: []string{
				"new local icmp 172.17.0.2:7>192.0.2.10:0 = 198.51.100.1:7>192.0.2.10:0 neigh up0",
				"new wire icmp 192.0.2.10:0>198.51.100.1:7 = 192.0.2.10:0>172.17.0.2:7 peer c1",
			},
		},
		{
			name: "a protocol without ports",
			hook: fromContainer("c1"),
			in:   portless("gre", "172.17.0.2", "192.0.2.10"),
			want: redirected("br0 out", portless("gre", "198.51.100.1", "192.0.2.10").withTTL(63)),
			flows: []string{
				"new local gre 172.17.0.2:0>192.0.2.10:0 = 198.51.100.1:0>192.0.2.10:0 neigh up0",
				"new wire gre 192.0.2.10:0>198.51.100.1:0 = 192.0.2.10:0>172.17.0.2:0 peer c1",
			},
		},
		{
			name: "E-12 by the second uplink, with its address",
			hook: fromContainer("c1"),
			in:   tcp("172.17.0.2:40000", "192.0.2.200:80", "S"),
			want: redirected("br0 out", tcp("203.0.113.1:40000", "192.0.2.200:80", "S").withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>192.0.2.200:80 = 203.0.113.1:40000>192.0.2.200:80 neigh up1",
				"new wire tcp 192.0.2.200:80>203.0.113.1:40000 = 192.0.2.200:80>172.17.0.2:40000 peer c1",
			},
		},
		{
			name: "E-12 with the address that the bridge asks for",
			change: func(s *state.State) {
				b := s.Bridges[d.w.devices["br0"].index]
				b.Masquerade = addr("203.0.113.1")
				s.Bridges[d.w.devices["br0"].index] = b
			},
			hook: fromContainer("c1"),
			in:   syn,
			want: redirected("br0 out", syn.from("203.0.113.1:40000").withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>192.0.2.10:80 = 203.0.113.1:40000>192.0.2.10:80 neigh up0",
				"new wire tcp 192.0.2.10:80>203.0.113.1:40000 = 192.0.2.10:80>172.17.0.2:40000 peer c1",
			},
		},
		{
			name: "E-20 a bridge that does not masquerade",
			change: func(s *state.State) {
				d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_MASQUERADE)
			},
			hook: fromContainer("c1"),
			in:   syn,
			want: redirected("br0 out", syn.withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>192.0.2.10:80 neigh up0",
				"new wire tcp 192.0.2.10:80>172.17.0.2:40000 peer c1",
			},
		},
		{
			name:  "G-6 an internal network has no way out",
			hook:  fromContainer("i1"),
			in:    tcp("172.19.0.2:40000", "192.0.2.10:80", "S"),
			want:  dropped("internal"),
			flows: nil,
		},
		{
			name:   "G-6 over docker's rules they decide about it",
			change: d.w.overRules,
			hook:   fromContainer("i1"),
			in:     tcp("172.19.0.2:40000", "192.0.2.10:80", "S"),
			want:   passed("rules"),
		},
		{
			name: "out by a device that is no uplink",
			hook: fromContainer("c1"),
			in:   syn.to("10.9.0.5:80"),
			want: dropped("no_uplink"),
		},
		{
			name:   "out by a device that is no uplink, over docker's rules",
			change: d.w.overRules,
			hook:   fromContainer("c1"),
			in:     syn.to("10.9.0.5:80"),
			want:   passed("rules"),
		},
		{
			name: "I-4 no route: the kernel answers",
			hook: fromContainer("c1"),
			in:   syn.to("192.0.2.97:80"),
			want: passed("route"),
		},
		{
			name:  "G-1 the last ttl: the kernel answers",
			hook:  fromContainer("c1"),
			in:    syn.withTTL(1),
			want:  passed("ttl"),
			flows: opened(),
		},
		{
			name: "native picks up tcp in the middle of a connection",
			hook: fromContainer("c1"),
			in:   tcp("172.17.0.2:40000", "192.0.2.10:80", "A"),
			want: redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "A").withTTL(63)),

			flows: opened(),
		},
		{
			name:   "F-11 over docker's rules tcp in the middle of a connection is the kernel's",
			change: d.w.overRules,
			hook:   fromContainer("c1"),
			in:     tcp("172.17.0.2:40000", "192.0.2.10:80", "A"),
			want:   passed("midstream"),
		},
		{
			name:   "over docker's rules a new connection is ours",
			change: d.w.overRules,
			hook:   fromContainer("c1"),
			in:     syn,
			want:   redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)),
			flows:  opened(),
		},
		{
			name: "E-14 multicast is not masqueraded",
			hook: fromContainer("c1"),
			in:   udp("172.17.0.2:5353", "224.0.0.251:5353"),
			want: passed("multicast"),
		},
		{
			name: "E-14 broadcast is not masqueraded",
			hook: fromContainer("c1"),
			in:   udp("0.0.0.0:68", "255.255.255.255:67"),
			want: passed("multicast"),
		},
		{
			name: "E-14 the bridge's broadcast is not masqueraded",
			hook: fromContainer("c1"),
			in:   udp("172.17.0.2:137", "172.17.255.255:137"),
			want: passed("unknown_target"),
		},
		{
			name: "E-14 the uplink's broadcast is not masqueraded",
			hook: fromContainer("c1"),
			in:   udp("172.17.0.2:137", "198.51.100.255:137"),
			want: passed("route"),
		},
	})
}

// D-1: a checksum that comes out as 0 is sent as 0xffff, because 0 would say that there is none.
func testZeroSum(t *testing.T, d *datapath) {
	d.reset(t)
	in := udp("172.17.0.2:5000", "192.0.2.10:53").data([]byte{0, 0})
	out := in.from("198.51.100.1:5000").withTTL(63)
	b := out.bytes()
	// A payload of what the checksum is with a payload of 0 makes it 0.
	in.payload, out.payload = b[40:42], b[40:42]
	out = out.put16(40, 0xffff)
	if got := binary.BigEndian.Uint16(in.bytes()[40:]); got == 0 || got == 0xffff {
		t.Fatalf("checksum is %#04x already before translation", got)
	}
	d.expect(t, fromContainer("c1"), in, redirected("br0 out", out))
}
