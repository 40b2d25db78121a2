package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// datagrams is network with the other way to wrap: hosts send each other the packets in UDP datagrams. lan0 is the near end of the pair that
// leads there, and its far end is not needed to look at one packet.
func (w *world) datagrams(s *state.State) {
	w.network(s)
	for key, p := range s.Peers {
		if p.Kind != bpf.DatapathPeerKindPEER_NONE {
			p.Kind, p.Mac = bpf.DatapathPeerKindPEER_UDP, [6]uint8{}
			s.Peers[key] = p
		}
	}
	s.Overlay.Port, s.Overlay.Kind, s.Overlay.Mtu, s.Overlay.Vni = bpf.Port(8285), bpf.DatapathPeerKindPEER_UDP, 1472, 0
}

// ours is datagrams where the host behind 10.200.2.0/24 is one of ours.
func (w *world) ours(s *state.State) {
	w.datagrams(s)
	for key, p := range s.Peers {
		if p.Kind == bpf.DatapathPeerKindPEER_UDP {
			p.Flags = bpf.DatapathPeerFlagPEER_EBPFNET
			s.Peers[key] = p
		}
	}
}

// datagram is a packet as a host sends it to another (tos is the outer header's).
func datagram(inner frame, from, to string, tos uint8) frame {
	f := udp(from+":8285", to+":8285").data(inner.bytes()[14:]).noChecksum().put8(15, tos).refresh()
	f.fragment, f.ipID = 0x4000, 0
	return f
}

// tos writes the type of service.
func (f frame) tos(v uint8) frame { return f.put8(15, v).refresh() }

// marked sends a frame that comes with a mark of one of our programs.
func (d *datapath) marked(tb testing.TB, h hook, f frame, mark uint32) result {
	tb.Helper()
	var in skb
	in.CB[cbMarkIn] = mark
	return d.run(tb, h, d.w.addressed(h, f).bytes(), in)
}

func fromPeer(dev string) hook { return hook{"from_peer", dev} }

func toPeer(dev string) hook { return hook{"to_peer", dev} }

// testDatagrams: hosts that send each other packets as all that a datagram holds.
func testDatagrams(t *testing.T, d *datapath) {
	const own, far = "198.51.100.1", "198.51.100.7"
	out := tcp("172.17.0.2:40000", "10.200.2.5:80", "S")
	in := tcp("10.200.2.5:50000", "172.17.0.2:80", "S")
	opened := func(f frame) outcome { return redirected("br0 overlay", f.withTTL(63).macs(d.w.gateway("c1"))) }
	wrapped := func(f frame, tos uint8) outcome {
		return redirected("br0 overlay", datagram(f.withTTL(63), own, far, tos))
	}
	inFlows := []string{
		"new wire tcp 10.200.2.5:50000>172.17.0.2:80 peer c1",
		"new local tcp 172.17.0.2:80>10.200.2.5:50000 dev lan0",
	}
	oursFlows := []string{
		"new local tcp 172.17.0.2:40000>10.200.2.5:80 datagram up0",
		"new wire tcp 10.200.2.5:80>172.17.0.2:40000 peer c1",
	}
	outFlows := []string{
		"new local tcp 172.17.0.2:40000>10.200.2.5:80 dev lan0",
		"new wire tcp 10.200.2.5:80>172.17.0.2:40000 peer c1",
	}
	d.runCases(t, []packetCase{
		{
			name: "J-1 out of a container", change: d.w.datagrams,
			hook: fromContainer("c1"), in: out, want: redirected("br0 overlay", out.withTTL(63)), flows: outFlows,
		},
		{
			name: "J-2 too big", change: d.w.datagrams,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: tcp("172.17.0.2:40000", "10.200.2.5:80", "A").data(make([]byte, 1433)),
			want: passed("mtu"), flows: outFlows,
		},
		{
			name: "J-7 to nobody", change: d.w.datagrams,
			hook: fromContainer("c1"), in: out.to("10.200.9.5:80"), want: dropped("no_peer"),
		},
		{
			name: "into the datagram", change: d.w.datagrams,
			hook: toPeer("lan0"), in: out, want: outcome{verdict: verdictRedirect, out: framed(datagram(out, own, far, 0))},
		},
		{
			name: "into the datagram, a piece", change: d.w.datagrams,
			hook: toPeer("lan0"), in: udp("172.17.0.2:40000", "10.200.2.5:80").pieces(8)[1],
			want: outcome{verdict: verdictRedirect, out: framed(datagram(udp("172.17.0.2:40000", "10.200.2.5:80").pieces(8)[1], own, far, 0))},
		},
		{
			name: "J-8 what the packet says of congestion stands outside too, and nothing else of its service", change: d.w.datagrams,
			hook: toPeer("lan0"), in: out.tos(0xbb), want: outcome{verdict: verdictRedirect, out: framed(datagram(out.tos(0xbb), own, far, 3))},
		},
		{
			name: "J-7 into a datagram for nobody", change: d.w.datagrams,
			hook: toPeer("lan0"), in: out.to("10.200.9.5:80"), want: dropped("no_peer"),
		},
		{
			name: "J-7 into a datagram for who is outside", change: d.w.datagrams,
			hook: toPeer("lan0"), in: out.to("192.0.2.5:80"), want: dropped("no_peer"),
		},
		{
			name: "no datagrams in a network of another kind", change: d.w.network,
			hook: toPeer("lan0"), in: out, want: dropped("no_peer"),
		},
		{
			name: "J-1 out of the datagram into the container", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, own, 0), want: opened(in), flows: inFlows,
		},
		{
			name: "J-8 congestion on the way is told inside", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0x02), far, own, 3), want: opened(in.tos(0x03)), flows: inFlows,
		},
		{
			name: "J-8 congestion inside stays", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0x03), far, own, 2), want: opened(in.tos(0x03)), flows: inFlows,
		},
		{
			name: "J-8 no congestion", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0xb9), far, own, 1), want: opened(in.tos(0xb9)), flows: inFlows,
		},
		{
			name: "out of the datagram for another host's container", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.to("10.200.3.5:80"), far, own, 0), want: dropped("no_peer"),
		},
		{
			name: "M-1 out of the datagram, longer than it", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.put16(16, 200).refresh(), far, own, 0), want: dropped("truncated"),
		},
		{
			name: "D-5 several datagrams in a row are not one with several segments", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(udp("10.200.2.5:50000", "172.17.0.2:80").data(make([]byte, 200)), far, own, 0).gso(100, 2),
			want: dropped("rewrite"),
		},
		{
			name: "D-5 nor are two of a TCP connection", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, own, 0).data(append(in.bytes()[14:], make([]byte, 100)...)).gso(68, 3), want: dropped("rewrite"),
		},
		{
			name: "J-1 to a host of ours", change: d.w.ours,
			hook: fromContainer("c1"), in: out, want: wrapped(out, 0), flows: oursFlows,
		},
		{
			name: "J-1 to a host of ours, a known flow", change: d.w.ours,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: out.data(make([]byte, 1000)), want: wrapped(out.data(make([]byte, 1000)), 0), flows: oursFlows,
		},
		{
			name: "J-8 congestion, to a host of ours", change: d.w.ours,
			hook: fromContainer("c1"), in: out.tos(0xbb), want: wrapped(out.tos(0xbb), 3), flows: oursFlows,
		},
		{
			name: "J-2 too big, to a host of ours", change: d.w.ours,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: tcp("172.17.0.2:40000", "10.200.2.5:80", "A").data(make([]byte, 1433)),
			want: passed("mtu"), flows: oursFlows,
		},
		{
			// The kernel knows of no packet of a test that it is a TCP connection's segments, and takes it for a UDP socket's.
			name: "D-5 segments that cannot be wrapped as they are take the way of what is finished first", change: d.w.ours,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: tcp("172.17.0.2:40000", "10.200.2.5:80", "A").data(make([]byte, 2864)).gso(1432, 2),
			want:  redirected("br0 overlay", tcp("172.17.0.2:40000", "10.200.2.5:80", "A").data(make([]byte, 2864)).withTTL(63).gso(1432, 2)),
			flows: oursFlows,
		},
		{
			name: "from a bridge that the other hosts do not know, to a host of ours", change: d.w.ours,
			hook: fromContainer("d1"), in: tcp("172.18.0.2:40000", "10.200.2.5:80", "S"),
			want: redirected("br1 overlay", datagram(tcp("10.200.1.0:40000", "10.200.2.5:80", "S").withTTL(63), own, far, 0)),
			flows: []string{
				"new local tcp 172.18.0.2:40000>10.200.2.5:80 = 10.200.1.0:40000>10.200.2.5:80 datagram up0",
				"new wire tcp 10.200.2.5:80>10.200.1.0:40000 = 10.200.2.5:80>172.18.0.2:40000 peer d1",
			},
		},
		{
			name: "J-8 congestion around a packet that cannot tell", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, own, 3), want: dropped("congestion"),
		},
		{
			name: "overlay D6 out of the datagram for the host", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.to("10.8.0.1:80"), far, own, 0),
			want: outcome{verdict: verdictRedirect, out: framed(in.to("10.8.0.1:80")), counter: "pass host"},
		},
		{
			name: "J-5 from another host than the one that has the subnet", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, "198.51.100.8", own, 0), want: dropped("not_peer"),
		},
		{
			name: "J-5 from a stranger", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, "192.0.2.9", own, 0), want: dropped("not_peer"),
		},
		{
			name: "J-5 with a source that is nobody's", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.from("10.200.9.5:50000"), far, own, 0), want: dropped("not_peer"),
		},
		{
			name: "J-5 with a source outside", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.from("192.0.2.5:50000"), far, own, 0), want: dropped("not_peer"),
		},
		{
			name: "J-5 to another address of the host is no tunnel's", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, "203.0.113.1", 0), want: passed("not_ours"),
		},
		{
			name: "another port is no tunnel's", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, own, 0).to(own + ":8286"), want: passed("not_ours"),
		},
		{
			name: "no datagrams are opened in a network of another kind", change: d.w.network,
			hook: fromUplink("up0"), in: datagram(in, far, own, 0), want: passed("not_ours"),
		},
		{
			name: "M-1 an empty datagram", change: d.w.datagrams,
			hook: fromUplink("up0"), in: udp(far+":8285", own+":8285").data(nil), want: dropped("truncated"),
		},
		{
			name: "M-1 a datagram of something else", change: d.w.datagrams,
			hook: fromUplink("up0"), in: udp(far+":8285", own+":8285").data(make([]byte, 40)), want: dropped("ip_header"),
		},
		{
			name: "the first piece of a datagram", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.data(make([]byte, 64)), far, own, 0).pieces(64)[0], want: dropped("fragment"),
		},
		{
			name: "J-5 to the port of the datagrams", change: d.w.datagrams,
			hook: fromContainer("c1"), in: udp("172.17.0.2:40000", far+":8285"), want: dropped("forged_tunnel"),
		},
	})
	t.Run("J-1 out of the datagram into the container, and the answer", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.datagrams)
		d.expect(t, fromUplink("up0"), datagram(in, far, own, 0), opened(in))
		answer := tcp("172.17.0.2:80", "10.200.2.5:50000", "SA")
		d.expect(t, fromContainer("c1"), answer, redirected("br0 overlay", answer.withTTL(63)))
		d.expect(t, toPeer("lan0"), answer.withTTL(63), outcome{verdict: verdictRedirect, out: framed(datagram(answer.withTTL(63), own, far, 0))})
		// A host that has become one of ours is sent what is not finished at once.
		d.change(t, d.w.ours)
		d.expect(t, fromContainer("c1"), answer, wrapped(answer, 0))
		d.change(t, d.w.datagrams)
		d.expect(t, fromContainer("c1"), answer, redirected("br0 overlay", answer.withTTL(63)))
	})
	// overlay D6: what is for the host goes to the stack by the near end, with a mark that only our own program gives.
	t.Run("overlay D6 out of the datagram for the host", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.datagrams)
		r := d.send(t, fromUplink("up0"), datagram(in.to("10.8.0.1:80"), far, own, 0))
		mark := r.skb.CB[cbMarkOut]
		if mark == 0 {
			t.Error("it has no mark")
		}
		r = d.marked(t, fromPeer("lan0"), in.to("10.8.0.1:80").macs(mac("02:00:00:00:00:fe"), mac("02:00:00:00:00:01")), mark)
		if r.verdict != verdictNext || r.skb.CB[cbTypeOut] != 0 || r.skb.CB[cbMarkOut] != 0 {
			t.Errorf("verdict %d, type %d, mark %#x", r.verdict, r.skb.CB[cbTypeOut], r.skb.CB[cbMarkOut])
		}
		// J-5: a container gives nobody the mark.
		if r := d.marked(t, fromContainer("c1"), out, mark); r.skb.CB[cbMarkOut] == mark {
			t.Error("J-5: a container has given the mark")
		}
	})
	// D-3: the pieces of a datagram that were in datagrams of ours follow each other, whichever comes first.
	t.Run("D-3 pieces out of datagrams", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.datagrams)
		pieces := udp("10.200.2.5:50000", "172.17.0.2:80").data(make([]byte, 64)).pieces(32)
		d.expect(t, fromUplink("up0"), datagram(pieces[0], far, own, 0), opened(pieces[0]))
		d.expect(t, fromUplink("up0"), datagram(pieces[1], far, own, 0), opened(pieces[1]))
	})
	// J-7: as for the other kinds.
	t.Run("J-7 the peer goes", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.datagrams)
		d.send(t, fromContainer("c1"), out)
		d.change(t, func(s *state.State) {
			d.w.datagrams(s)
			delete(s.Peers, bpf.PrefixKey{Prefixlen: 24, Addr: addr("10.200.2.0")})
		})
		d.expect(t, fromContainer("c1"), out, dropped("no_peer"))
		d.expectFlows(t)
	})
}
