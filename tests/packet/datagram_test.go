package packet

import (
	"bytes"
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
	opened := func(f frame) outcome { return outcome{verdict: verdictRedirect, out: framed(f)} }
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
			hook: fromUplink("up0"), in: datagram(in, far, own, 0), want: opened(in),
		},
		{
			name: "J-8 congestion on the way is told inside", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0x02), far, own, 3), want: opened(in.tos(0x03)),
		},
		{
			name: "J-8 congestion inside stays", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0x03), far, own, 2), want: opened(in.tos(0x03)),
		},
		{
			name: "J-8 no congestion", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.tos(0xb9), far, own, 1), want: opened(in.tos(0xb9)),
		},
		{
			name: "J-8 congestion around a packet that cannot tell", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in, far, own, 3), want: dropped("congestion"),
		},
		{
			name: "overlay D6 out of the datagram for the host", change: d.w.datagrams,
			hook: fromUplink("up0"), in: datagram(in.to("10.8.0.1:80"), far, own, 0),
			want: outcome{verdict: verdictRedirect, out: framed(in.to("10.8.0.1:80"))},
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
	// What was opened comes in again by the near end, with a mark that only our own program gives.
	t.Run("J-1 out of the datagram into the container, and the answer", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.datagrams)
		r := d.send(t, fromUplink("up0"), datagram(in, far, own, 0))
		mark := r.skb.CB[cbMarkOut]
		r = d.marked(t, fromPeer("lan0"), in, mark)
		if want := in.withTTL(63).macs(d.w.gateway("c1")).bytes(); r.verdict != verdictRedirect || !bytes.Equal(r.data, want) {
			t.Errorf("verdict %d, packet\n%s\nwant\n%s", r.verdict, describe(r.data), describe(want))
		}
		d.expectFlows(t, "new wire tcp 10.200.2.5:50000>172.17.0.2:80 peer c1", "new local tcp 172.17.0.2:80>10.200.2.5:50000 dev lan0")
		answer := tcp("172.17.0.2:80", "10.200.2.5:50000", "SA")
		d.expect(t, fromContainer("c1"), answer, redirected("br0 overlay", answer.withTTL(63)))
		d.expect(t, toPeer("lan0"), answer.withTTL(63), outcome{verdict: verdictRedirect, out: framed(datagram(answer.withTTL(63), own, far, 0))})

		// overlay D6: for the host itself, and for nobody.
		if r := d.marked(t, fromPeer("lan0"), in.to("10.8.0.1:80"), mark); r.verdict != verdictNext {
			t.Errorf("for the host: verdict %d", r.verdict)
		}
		if r := d.marked(t, fromPeer("lan0"), in.to("10.200.3.5:80"), mark); r.verdict != verdictDrop {
			t.Errorf("for another host's container: verdict %d", r.verdict)
		}
		if r := d.marked(t, fromPeer("lan0"), in.put16(16, 200).refresh(), mark); r.verdict != verdictDrop {
			t.Errorf("M-1 a packet that is longer than its datagram: verdict %d", r.verdict)
		}
		// J-5: by any other way it is for the stack alone, and a container gives nobody the mark.
		d.expect(t, fromPeer("lan0"), in, unseen())
		if r := d.marked(t, fromContainer("c1"), out, mark); r.skb.CB[cbMarkOut] == mark {
			t.Error("J-5: a container has given the mark")
		}
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
