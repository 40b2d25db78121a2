package packet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testLeaving: what the stack sends out of an uplink. Nothing leaves with a container's own address where we are to hide it.
func testLeaving(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	answer := udp("172.17.0.2:53", "192.0.2.10:50000")
	stranger := []string{
		"new local tcp 172.17.0.9:40000>192.0.2.10:80 = 198.51.100.1:40000>192.0.2.10:80 neigh up0",
		"new wire tcp 192.0.2.10:80>198.51.100.1:40000 = 192.0.2.10:80>172.17.0.9:40000 neigh br0",
	}
	d.runCases(t, []packetCase{
		{name: "the host's own", hook: toUplink("up0"), in: tcp("198.51.100.1:40000", "192.0.2.10:80", "S"), want: unseen()},
		{name: "transit", hook: toUplink("up0"), in: syn.from("10.9.0.5:40000"), want: unseen()},
		{
			name: "G-12 a container's, before its veth had a program", hook: toUplink("up0"), in: syn,
			want: stacked("br0 out", syn.from("198.51.100.1:40000")), flows: opened(),
		},
		{
			name: "a known flow's", before: []sent{{fromContainer("c1"), syn}}, hook: toUplink("up0"), in: syn.withTTL(63),
			want: stacked("br0 out", syn.from("198.51.100.1:40000").withTTL(63)), flows: opened(),
		},
		{
			name: "E-13 an answer of a published port", change: publishWeb, before: []sent{{fromUplink("up0"), udp("192.0.2.10:50000", "198.51.100.1:8080")}},
			hook: toUplink("up0"), in: answer, want: stacked("br0 in", answer.from("198.51.100.1:8080")), flows: []string{
				"new local udp 172.17.0.2:53>192.0.2.10:50000 = 198.51.100.1:8080>192.0.2.10:50000 neigh up0",
				"new wire udp 192.0.2.10:50000>198.51.100.1:8080 = 192.0.2.10:50000>172.17.0.2:53 peer c1",
			},
		},
		{
			name: "G-4 a stranger's on the bridge", hook: toUplink("up0"), in: syn.from("172.17.0.9:40000"),
			want: stacked("br0 out", syn.from("198.51.100.1:40000")), flows: stranger,
		},
		{name: "G-6 an internal network's", hook: toUplink("up0"), in: syn.from("172.19.0.2:40000"), want: dropped("internal")},
		{name: "over docker's rules they translate", change: d.w.overRules, hook: toUplink("up0"), in: syn, want: unseen()},
		{
			name: "a bridge that does not masquerade", hook: toUplink("up0"), in: syn, want: unseen(),
			change: func(s *state.State) { d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_MASQUERADE) },
		},
		{name: "G-3 no ipv4", hook: toUplink("up0"), in: syn.put16(atEtherType, 0x0806), want: unseen()},
		{name: "M-1 what the stack makes of a malformed packet is its business", hook: toUplink("up0"), in: syn.put8(atIP, 0x44), want: unseen()},
	})
}

// testSizes: I-8, G-1: what is too big, or too old, for the next network is the kernel's to answer.
func testSizes(t *testing.T, d *datapath) {
	narrow := func(s *state.State) {
		up := s.Uplinks[d.w.devices["up0"].index]
		up.Mtu = 1000
		s.Uplinks[d.w.devices["up0"].index] = up
	}
	small := func(s *state.State) {
		publishWeb(s)
		ep := s.Endpoints[addrKey("172.17.0.2")]
		ep.Mtu = 1000
		s.Endpoints[addrKey("172.17.0.2")] = ep
	}
	out := func(payload int) frame {
		return tcp("172.17.0.2:40000", "192.0.2.10:80", "A").data(make([]byte, payload))
	}
	in := func(payload int) frame {
		return tcp("192.0.2.10:50000", "198.51.100.1:8080", "A").data(make([]byte, payload))
	}
	left := func(reason string, f frame) outcome { return outcome{verdictNext, &f, "pass " + reason} }
	ping := echo("172.17.0.2", "192.0.2.10", 7).data(make([]byte, 973))
	d.runCases(t, []packetCase{
		{
			name: "I-8 just as big as the uplink takes", change: narrow, hook: fromContainer("c1"), in: out(960), flows: opened(),
			want: redirected("br0 out", out(960).from("198.51.100.1:40000").withTTL(63)),
		},
		{name: "I-8 one byte more", change: narrow, hook: fromContainer("c1"), in: out(961), want: passed("mtu"), flows: opened()},
		{
			name: "I-8 one byte more, icmp", change: narrow, hook: fromContainer("c1"), in: ping, want: passed("mtu"), flows: []string{
				"new local icmp 172.17.0.2:7>192.0.2.10:0 = 198.51.100.1:7>192.0.2.10:0 neigh up0",
				"new wire icmp 192.0.2.10:0>198.51.100.1:7 = 192.0.2.10:0>172.17.0.2:7 peer c1",
			},
		},
		{
			name: "I-8 D-4 I-9 held together by offload, its segments as big as the uplink takes", change: narrow,
			hook: fromContainer("c1"), in: out(2880).gso(960, 3), flows: opened(),
			want: redirected("br0 out", out(2880).from("198.51.100.1:40000").withTTL(63).gso(960, 3)),
		},
		{
			name: "I-8 held together by offload, its segments one byte more", change: narrow, hook: fromContainer("c1"),
			in: out(2883).gso(961, 3), want: passed("mtu"), flows: opened(),
		},
		{
			name: "I-8 I-9 inwards, as big as the container takes", change: small, hook: fromUplink("up0"), in: in(2880).gso(960, 3), flows: publishedWeb(),
			want: redirected("br0 in", in(2880).to("172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1")).gso(960, 3)),
		},
		{
			name: "I-8 H-11 inwards, too big: the kernel is to see for whom it is", change: small, hook: fromUplink("up0"), in: in(961), flows: publishedWeb(),
			want: left("mtu", in(961).to("172.17.0.2:80")),
		},
		{
			name: "H-11 inwards, the last ttl", change: publishWeb, hook: fromUplink("up0"), in: in(0).withTTL(1), flows: publishedWeb(),
			want: left("ttl", in(0).to("172.17.0.2:80").withTTL(1)),
		},
		{
			name: "G-1 ttl 2", hook: fromContainer("c1"), in: out(0).withTTL(2), flows: opened(),
			want: redirected("br0 out", out(0).from("198.51.100.1:40000").withTTL(1)),
		},
		{name: "G-1 ttl 0", hook: fromContainer("c1"), in: out(0).withTTL(0), want: passed("ttl"), flows: opened()},
		{
			name: "segment size lowered to the uplink's", change: narrow, hook: fromContainer("c1"), flows: opened(),
			in:   tcp("172.17.0.2:40000", "192.0.2.10:80", "S").withMSS(1460),
			want: redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "S").withMSS(960).withTTL(63)),
		},
		{
			name: "segment size that is small enough", change: narrow, hook: fromContainer("c1"), flows: opened(),
			in:   tcp("172.17.0.2:40000", "192.0.2.10:80", "S").withMSS(536),
			want: redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.10:80", "S").withMSS(536).withTTL(63)),
		},
		{
			name: "segment size of the answer", change: narrow, hook: fromUplink("up0"), flows: opened(),
			before: []sent{{fromContainer("c1"), tcp("172.17.0.2:40000", "192.0.2.10:80", "S")}},
			in:     tcp("192.0.2.10:80", "198.51.100.1:40000", "SA").withMSS(1460),
			want:   redirected("br0 out", tcp("192.0.2.10:80", "172.17.0.2:40000", "SA").withMSS(960).withTTL(63).macs(d.w.gateway("c1"))),
		},
	})
}

// G-16: what one hook tells the next by skb->tc_index.
func testMarks(t *testing.T, d *datapath) {
	const none, left, done, other = 0, 0xeb01, 0xeb02, 0x1234
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	for _, c := range []struct {
		name    string
		hook    hook
		in      frame
		before  uint32
		verdict int32
		after   uint32
		counter string
	}{
		{"out by a redirect: done", fromContainer("c1"), syn, none, verdictRedirect, done, "br0 out"},
		{"K-3 a container's own mark is not believed", fromContainer("c1"), syn, done, verdictRedirect, done, "br0 out"},
		{"left to the stack: left", fromContainer("c1"), udp("172.17.0.2:1", "172.17.255.255:1"), none, verdictNext, left, "pass unknown_target"},
		{"to the host: left", fromContainer("c1"), tcp("172.17.0.2:40000", "172.17.0.1:22", "S"), none, verdictNext, left, "br0 host"},
		{"a stranger's: unmarked, from_bridge is to look at it", fromContainer("s1"), syn.from("172.17.0.9:1"), none, verdictNext, none, "pass unknown_source"},
		{"a stranger's with a mark of its own", fromContainer("s1"), syn.from("172.17.0.9:1"), left, verdictNext, none, "pass unknown_source"},
		{"no ipv4 with a mark of its own", fromContainer("c1"), syn.put16(atEtherType, 0x86dd), done, verdictNext, left, "pass not_ipv4"},
		{"G-8 into a container's namespace, although for another's address", fromContainer("c1"), tcp("172.17.0.2:40000", "172.17.0.3:80", "S"),
			none, verdictRedirect, none, "br0 local"},
		{"G-16 from_bridge does not look at what a veth's program left", fromBridge("br0"), syn, left, verdictNext, none, ""},
		{"from_bridge does not look at what is done", fromBridge("br0"), syn, done, verdictNext, none, ""},
		{"G-16 to_uplink does not look at what is done", toUplink("up0"), syn, done, verdictNext, none, ""},
		{"to_uplink looks at what a veth's program left", toUplink("up0"), syn, left, verdictNext, none, "br0 out"},
		{"G-16 to_bridge does not look at what is done", toBridge("br0"), tcp("172.17.0.1:40000", "172.17.0.2:80", "S"), done, verdictNext, done, ""},
		{"to_bridge marks what it sends to a veth", toBridge("br0"), tcp("172.17.0.1:40000", "172.17.0.2:80", "S"), none, verdictRedirect, done, "br0 host"},
		{"to_bridge does not hand a mark on that is not its", toBridge("br0"), tcp("172.17.0.1:40000", "172.17.0.99:80", "S"), left, verdictNext, none, "pass unknown_target"},
		{"to_container ends the mark", toContainer("c1"), syn, done, verdictNext, none, ""},
		{"to_container ends a veth's mark", toContainer("c1"), syn, left, verdictNext, none, ""},
		{"to_container leaves another's mark", toContainer("c1"), syn, other, verdictNext, other, ""},
	} {
		t.Run("G-16 "+c.name, func(t *testing.T) {
			d.reset(t)
			before := d.counters(t)
			in := skb{}
			in.CB[cbMarkIn] = c.before
			h := c.hook
			f := d.w.addressed(h, c.in)
			r := d.run(t, h, f.bytes(), in)
			if r.verdict != c.verdict {
				t.Errorf("verdict is %d, want %d", r.verdict, c.verdict)
			}
			if r.skb.CB[cbMarkOut] != c.after {
				t.Errorf("tc_index is %#x, want %#x", r.skb.CB[cbMarkOut], c.after)
			}
			want := map[string]uint64{}
			if c.counter != "" {
				want[c.counter] = 1
			}
			if diff := cmp.Diff(want, moved(before, d.counters(t))); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
			if c.counter == "br0 local" && r.skb.CB[cbTypeOut] != 0 {
				t.Errorf("pkt_type is %d, want 0: the container's stack does not take it", r.skb.CB[cbTypeOut])
			}
		})
	}
}
