package packet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testPieces: datagrams in pieces, in the order of their making.
func testPieces(t *testing.T, d *datapath) {
	payload := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(7 * i)
		}
		return b
	}
	for _, c := range []struct {
		name    string
		change  func(*state.State)
		hook    hook
		in, out frame
		counter string
		left    bool // the verdict is to leave it to the stack
	}{
		{"C-1 out", nil, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"), udp("198.51.100.1:5000", "192.0.2.10:53").withTTL(63), "br0 out", false},
		{"B-3 ping out", nil, fromContainer("c1"), echo("172.17.0.2", "192.0.2.10", 7), echo("198.51.100.1", "192.0.2.10", 7).withTTL(63), "br0 out", false},
		{
			"C-1 out without checksum", nil, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53").noChecksum(),
			udp("198.51.100.1:5000", "192.0.2.10:53").noChecksum().withTTL(63), "br0 out", false,
		},
		{
			"C-2 in", publishWeb, fromUplink("up0"), udp("192.0.2.10:5000", "198.51.100.1:8080"),
			udp("192.0.2.10:5000", "172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1")), "br0 in", false,
		},
		{"C-1 local", nil, fromContainer("c1"), udp("172.17.0.2:5000", "172.17.0.3:53"), udp("172.17.0.2:5000", "172.17.0.3:53"), "br0 local", false},
		{"C-1 to the host", nil, fromContainer("c1"), udp("172.17.0.2:5000", "172.17.0.1:53"), udp("172.17.0.2:5000", "172.17.0.1:53"), "br0 host", true},
		{"C-1 from the host", nil, toBridge("br0"), udp("172.17.0.1:5000", "172.17.0.2:53"), udp("172.17.0.1:5000", "172.17.0.2:53"), "br0 host", false},
		{"C-10 cut by the stack on its way out", nil, toUplink("up0"), udp("172.17.0.2:5000", "192.0.2.10:53"), udp("198.51.100.1:5000", "192.0.2.10:53"), "br0 out", true},
	} {
		for _, size := range []int{4000, 2952 + 1, 2952 + 7} { // C-4: the last piece has a byte, or seven
			t.Run(fmt.Sprintf("%s, %d bytes", c.name, size), func(t *testing.T) {
				d.reset(t)
				if c.change != nil {
					d.change(t, c.change)
				}
				in, out := c.in.data(payload(size)).pieces(1480), c.out.data(payload(size)).pieces(1480)
				for i := range in {
					want := redirected(c.counter, out[i])
					if c.left {
						want = stacked(c.counter, out[i])
					}
					d.expect(t, c.hook, in[i], want)
				}
			})
		}
	}
}

// C-5: two containers send datagrams in pieces with one IP id to one machine; on the wire they have two.
func testPiecesSameID(t *testing.T, d *datapath) {
	d.reset(t)
	ids := map[string][]uint16{}
	first := udp("172.17.0.2:5000", "192.0.2.10:53").data(make([]byte, 3000)).pieces(1480)
	second := udp("172.17.0.3:6000", "192.0.2.10:53").data(make([]byte, 3000)).pieces(1480)
	for i := range first {
		for veth, f := range map[string]frame{"c1": first[i], "c2": second[i]} {
			r := d.send(t, fromContainer(veth), f)
			if r.verdict != verdictRedirect {
				t.Fatalf("%s: verdict of piece %d is %d", veth, i, r.verdict)
			}
			if err := checksums(r.data); err != nil {
				t.Error(err)
			}
			ids[veth] = append(ids[veth], binary.BigEndian.Uint16(r.data[18:]))
		}
	}
	for veth, got := range ids {
		if len(slices.Compact(got)) != 1 {
			t.Errorf("%s: the pieces have the ids %v", veth, got)
		}
	}
	if ids["c1"][0] == ids["c2"][0] {
		t.Errorf("both datagrams have the id %#x", ids["c1"][0])
	}
}

// testLostPieces: pieces whose first one has not passed.
func testLostPieces(t *testing.T, d *datapath) {
	pieces := func(f frame) []frame { return f.data(make([]byte, 3000)).pieces(1480) }
	out := pieces(udp("172.17.0.2:5000", "192.0.2.10:53"))
	in := pieces(udp("192.0.2.10:5000", "198.51.100.1:8080"))
	d.runCases(t, []packetCase{
		{name: "C-3 out", hook: fromContainer("c1"), in: out[1], want: kept()},
		{name: "C-3 out, over Docker's rules", change: d.w.overRules, hook: fromContainer("c1"), in: out[1], want: kept()},
		{name: "C-3 out of the uplink: nothing leaves with a container's address", hook: toUplink("up0"), in: out[1], want: dropped("fragment")},
		{name: "C-3 in", change: publishWeb, hook: fromUplink("up0"), in: in[1], want: kept()},
		{name: "C-3 in, of no port that is published", hook: fromUplink("up0"), in: in[1], want: kept()},
		{name: "C-3 to another bridge's host", hook: fromUplink("up0"), in: in[1].to("192.0.2.99:1"), want: passed("not_ours")},
		{
			name: "C-3 in, the first went to the stack", before: []sent{{fromUplink("up0"), in[0]}},
			hook: fromUplink("up0"), in: in[1], want: passed("fragment"),
		},
		{name: "C-8 G-6 to another bridge", hook: fromContainer("c1"), in: out[1].to("172.18.0.2:53"), want: dropped("isolated")},
		{name: "C-8 G-6 out of an internal network", hook: fromContainer("i1"), in: out[1].from("172.19.0.2:53"), want: dropped("internal")},
		{name: "G-6 icmp without a flow out of an internal network", hook: fromContainer("i1"), in: icmp("172.19.0.2", "192.0.2.10", 99, 0), want: dropped("internal")},
		{name: "G-6 icmp without a flow, to another address of the host", hook: fromContainer("i1"), in: icmp("172.19.0.2", "198.51.100.1", 99, 0), want: dropped("internal")},
		{name: "C-8 G-5 with another's address", hook: fromContainer("c2"), in: out[1], want: dropped("spoofed")},
		{
			name: "C-8 G-5 with another's address, whose first piece has passed", before: []sent{{fromContainer("c1"), out[0]}},
			hook: fromContainer("c2"), in: out[1], want: dropped("spoofed"), flows: []string{
				"new local udp 172.17.0.2:5000>192.0.2.10:53 = 198.51.100.1:5000>192.0.2.10:53 neigh up0",
				"new wire udp 192.0.2.10:53>198.51.100.1:5000 = 192.0.2.10:53>172.17.0.2:5000 peer c1",
			},
		},
		{
			name: "C-7 first piece without a whole header", hook: fromContainer("c1"),
			in: out[0].edit(func(b []byte) []byte { return b[:38] }).put16(atTotalLen, 24).refresh(), want: dropped("truncated"),
		},
		{name: "H-20 C-8 to a container's own address", hook: fromUplink("up0"), in: in[1].to("172.17.0.2:53"), want: dropped("direct")},
	})
	t.Run("C-6 the same id again means the new ports", func(t *testing.T) {
		d.reset(t)
		for _, port := range []string{"5000", "6000"} {
			in := udp("172.17.0.2:"+port, "172.17.0.3:53").data(make([]byte, 3000)).pieces(1480)
			for _, f := range in {
				d.expect(t, fromContainer("c1"), f, redirected("br0 local", f))
			}
			if f, _ := d.flow(t, local("udp", "172.17.0.2:"+port, "172.17.0.3:53")); f.Packets != uint64(len(in)) {
				t.Errorf("port %s: %d packets by its flow, want %d", port, f.Packets, len(in))
			}
		}
	})
	t.Run("C-6 after half a minute the pieces of a datagram are no more its", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), out[0])
		frags := d.coll.Maps["frags4"]
		var key bpf.DatapathFrag4Key
		var frag bpf.DatapathFrag4
		it := frags.Iterate()
		for it.Next(&key, &frag) {
			frag.Seen -= 31 * 1000 // more than any clock's ticks in that time
			if err := frags.Put(key, frag); err != nil {
				t.Fatal(err)
			}
		}
		d.expect(t, fromContainer("c1"), out[1], kept())
	})
}
