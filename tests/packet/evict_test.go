package packet

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// evictCase is a flow of any kind: its first packet, the answer to it, and what both look like at the other side.
type evictCase struct {
	name           string
	forward, reply sent
	out, back      outcome // what each becomes
	key, inverse   bpf.FlowKey
}

func evictCases(d *datapath) []evictCase {
	c1, c2, up := fromContainer("c1"), fromContainer("c2"), fromUplink("up0")
	masq, back := udp("172.17.0.2:5000", "192.0.2.10:53"), udp("192.0.2.10:53", "198.51.100.1:5000")
	in, answer := udp("192.0.2.10:5000", "198.51.100.1:8080"), udp("172.17.0.2:53", "192.0.2.10:5000")
	to, fro := udp("172.17.0.2:5000", "172.17.0.3:53"), udp("172.17.0.3:53", "172.17.0.2:5000")
	ask, tell := udp("172.17.0.2:5000", "172.17.0.1:53"), udp("172.17.0.1:53", "172.17.0.2:5000")
	call, say := udp("172.17.0.1:5000", "172.17.0.2:53"), udp("172.17.0.2:53", "172.17.0.1:5000")
	odd, even := udp("172.17.0.9:5000", "192.0.2.10:53"), udp("192.0.2.10:53", "198.51.100.1:5000")
	gre, erg := portless("gre", "172.17.0.2", "192.0.2.10"), portless("gre", "192.0.2.10", "198.51.100.1")
	greKey := func(k bpf.FlowKey) bpf.FlowKey { k.Sport, k.Dport = 0, 0; return k }
	return []evictCase{
		{
			"out", sent{c1, masq}, sent{up, back},
			redirected("br0 out", masq.from("198.51.100.1:5000").withTTL(63)),
			redirected("br0 out", back.to("172.17.0.2:5000").withTTL(63).macs(d.w.gateway("c1"))),
			local("udp", "172.17.0.2:5000", "192.0.2.10:53"), wire("udp", "192.0.2.10:53", "198.51.100.1:5000"),
		},
		{
			"in", sent{up, in}, sent{c1, answer},
			redirected("br0 in", in.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1"))),
			redirected("br0 in", answer.from("198.51.100.1:8080").withTTL(63)),
			wire("udp", "192.0.2.10:5000", "198.51.100.1:8080"), local("udp", "172.17.0.2:53", "192.0.2.10:5000"),
		},
		{
			"local", sent{c1, to}, sent{c2, fro}, redirected("br0 local", to), redirected("br0 local", fro),
			local("udp", "172.17.0.2:5000", "172.17.0.3:53"), local("udp", "172.17.0.3:53", "172.17.0.2:5000"),
		},
		{
			"to the host", sent{c1, ask}, sent{toBridge("br0"), tell}, stacked("br0 host", ask), redirected("br0 host", tell),
			local("udp", "172.17.0.2:5000", "172.17.0.1:53"), local("udp", "172.17.0.1:53", "172.17.0.2:5000"),
		},
		{
			"from the host", sent{toBridge("br0"), call}, sent{c1, say}, redirected("br0 host", call), stacked("br0 host", say),
			local("udp", "172.17.0.1:5000", "172.17.0.2:53"), local("udp", "172.17.0.2:53", "172.17.0.1:5000"),
		},
		{
			"a stranger's", sent{fromBridge("br0"), odd}, sent{up, even},
			redirected("br0 out", odd.from("198.51.100.1:5000").withTTL(63)), redirected("br0 out", even.to("172.17.0.9:5000").withTTL(63)),
			local("udp", "172.17.0.9:5000", "192.0.2.10:53"), wire("udp", "192.0.2.10:53", "198.51.100.1:5000"),
		},
		{
			"out without ports", sent{c1, gre}, sent{up, erg},
			redirected("br0 out", gre.from("198.51.100.1").withTTL(63)),
			redirected("br0 out", erg.to("172.17.0.2").withTTL(63).macs(d.w.gateway("c1"))),
			greKey(local("gre", "172.17.0.2:1", "192.0.2.10:1")), greKey(wire("gre", "192.0.2.10:1", "198.51.100.1:1")),
		},
	}
}

// testEvicted: E-10, an entry that was pushed out of the table comes back as it was, whichever of the two it was, and whichever side sends
// next; and the packet that finds it missing goes the same way as before.
func testEvicted(t *testing.T, d *datapath) {
	for _, c := range evictCases(d) {
		for _, answered := range []bool{false, true} {
			for _, gone := range []string{"forward", "reverse"} {
				for _, next := range []string{"forward", "reverse"} {
					// Before there was an answer the other side has nothing to send, and without its entry it is nobody's.
					if next == "reverse" && (!answered || gone == "reverse") {
						continue
					}
					t.Run(fmt.Sprintf("E-10 %s, answered %v, %s gone, next is %s", c.name, answered, gone, next), func(t *testing.T) {
						d.reset(t)
						d.change(t, publishWeb)
						d.expect(t, c.forward.hook, c.forward.frame, c.out)
						if answered {
							d.expect(t, c.reply.hook, c.reply.frame, c.back)
							d.expect(t, c.forward.hook, c.forward.frame, c.out)
						}
						d.evict(t, map[string]bpf.FlowKey{"forward": c.key, "reverse": c.inverse}[gone])
						d.nextTick(t)
						if next == "forward" {
							d.expect(t, c.forward.hook, c.forward.frame, c.out)
						} else {
							d.expect(t, c.reply.hook, c.reply.frame, c.back)
						}
						d.expectPairs(t)
						if n := len(d.flowRows(t)); n != 2 {
							t.Errorf("%d entries", n)
						}
						d.expect(t, c.reply.hook, c.reply.frame, c.back)
						d.expect(t, c.forward.hook, c.forward.frame, c.out)
					})
				}
			}
		}
	}
}

// E-9, E-10: a flow whose reservation was pushed out, and taken by another flow, does not take it back.
func testEvictedAndTaken(t *testing.T, d *datapath) {
	d.reset(t)
	first, second := udp("172.17.0.2:5000", "192.0.2.10:53"), udp("172.17.0.3:5000", "192.0.2.10:53")
	d.send(t, fromContainer("c1"), first)
	d.evict(t, wire("udp", "192.0.2.10:53", "198.51.100.1:5000"))
	d.expect(t, fromContainer("c2"), second, redirected("br0 out", second.from("198.51.100.1:5000").withTTL(63)))
	for range 3 {
		d.nextTick(t)
		r := d.send(t, fromContainer("c1"), first)
		if src, _ := r.addresses(); r.verdict != verdictRedirect || src == "198.51.100.1:5000" {
			t.Fatalf("verdict %d, the first flow leaves as %s, which is the second one's now", r.verdict, src)
		}
		d.nextTick(t)
		d.expect(t, fromContainer("c2"), second, redirected("br0 out", second.from("198.51.100.1:5000").withTTL(63)))
		answer := udp("192.0.2.10:53", "198.51.100.1:5000")
		d.expect(t, fromUplink("up0"), answer, redirected("br0 out", answer.to("172.17.0.3:5000").withTTL(63).macs(d.w.gateway("c2"))))
		d.expectPairs(t)
	}
}

// E-10: a flow whose port was changed gets the same port again.
func testEvictedChanged(t *testing.T, d *datapath) {
	for _, gone := range []string{"forward", "reverse"} {
		t.Run("E-10 "+gone+" gone", func(t *testing.T) {
			d.reset(t)
			d.send(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"))
			there := udp("172.17.0.3:5000", "192.0.2.10:53")
			r := d.send(t, fromContainer("c2"), there)
			src, _ := r.addresses()
			back := udp("192.0.2.10:53", src)
			d.evict(t, map[string]bpf.FlowKey{"forward": local("udp", there.src, there.dst), "reverse": wire("udp", back.src, back.dst)}[gone])
			d.nextTick(t)
			if gone == "forward" {
				d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to(there.src).withTTL(63).macs(d.w.gateway("c2"))))
			}
			d.expect(t, fromContainer("c2"), there, redirected("br0 out", there.from(src).withTTL(63)))
			d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to(there.src).withTTL(63).macs(d.w.gateway("c2"))))
			d.expectPairs(t)
		})
	}
}

// F-8: a flood of connections, ten times what the table holds, pushes out neither an answered flow nor its answers' entry; in either
// direction, and although every connection of the flood is answered.
func testFlood(t *testing.T, d *datapath) {
	for _, c := range []struct {
		name         string
		hook, answer hook
		syn          func(i int) (there, back frame)
	}{
		{
			"from a container", fromContainer("c2"), fromUplink("up0"),
			func(i int) (frame, frame) {
				peer := fmt.Sprintf("192.0.2.%d:%d", 11+i%50, 1+i/50)
				return tcp("172.17.0.3:1025", peer, "S"), tcp(peer, "198.51.100.1:1025", "SA")
			},
		},
		{
			"from outside", fromUplink("up0"), fromContainer("c1"),
			func(i int) (frame, frame) {
				peer := fmt.Sprintf("192.0.2.%d:%d", 11+i%50, 1+i/50)
				return tcp(peer, "198.51.100.1:8080", "S"), tcp("172.17.0.2:80", peer, "SA")
			},
		},
	} {
		t.Run("F-8 "+c.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, publishWeb)
			idle := evictCases(d)[:2]
			for _, e := range idle {
				d.send(t, e.forward.hook, e.forward.frame)
				d.send(t, e.reply.hook, e.reply.frame)
				d.send(t, e.forward.hook, e.forward.frame)
			}
			for i := range 10 * int(d.coll.Maps["flows4_new"].MaxEntries()) / 2 {
				there, back := c.syn(i)
				if r := d.send(t, c.hook, there); r.verdict != verdictRedirect {
					t.Fatalf("verdict of packet %d of the flood is %d", i, r.verdict)
				}
				d.send(t, c.answer, back)
			}
			for _, e := range idle {
				for _, key := range []bpf.FlowKey{e.key, e.inverse} {
					if _, ok := d.flow(t, key); !ok {
						t.Errorf("%s: an entry of an answered flow is gone", e.name)
					}
				}
				d.expect(t, e.reply.hook, e.reply.frame, e.back)
				d.expect(t, e.forward.hook, e.forward.frame, e.out)
			}
		})
	}
}

// TestFullTable makes the tables ones that refuse an entry when they are full. F-14: a packet whose flow cannot be entered is dropped, never
// half translated, and leaves nothing behind.
func TestFullTable(t *testing.T) {
	d := load(t, options{
		programs: []string{"from_container", "from_uplink", "to_bridge", "clock"},
		plain:    []string{"flows4", "flows4_new"}, sizes: map[string]uint32{"flows4": 1, "flows4_new": 5},
	})
	d.change(t, publishWeb)
	for i := range 2 {
		f := udp(fmt.Sprintf("172.17.0.2:%d", 5000+i), "192.0.2.10:53")
		d.expect(t, fromContainer("c1"), f, redirected("br0 out", f.from(fmt.Sprintf("198.51.100.1:%d", 5000+i)).withTTL(63)))
	}
	before := d.flows(t)
	for name, p := range map[string]sent{
		"out":   {fromContainer("c1"), udp("172.17.0.2:5002", "192.0.2.10:53")},
		"in":    {fromUplink("up0"), udp("192.0.2.10:5000", "198.51.100.1:8080")},
		"local": {fromContainer("c1"), udp("172.17.0.2:5000", "172.17.0.3:53")},
		"host":  {toBridge("br0"), udp("172.17.0.1:5000", "172.17.0.3:53")},
	} {
		t.Run("F-14 with room for half a pair, "+name, func(t *testing.T) {
			d.expect(t, p.hook, p.frame, dropped("flow_table"))
			d.expectFlows(t, before...)
		})
	}
	// There is room for half a pair in the table of answered flows: the flow stays where it is and goes on.
	t.Run("F-14 with no room among answered flows", func(t *testing.T) {
		there, back := udp("172.17.0.2:5000", "192.0.2.10:53"), udp("192.0.2.10:53", "198.51.100.1:5000")
		for range 3 {
			d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to("172.17.0.2:5000").withTTL(63).macs(d.w.gateway("c1"))))
			d.expect(t, fromContainer("c1"), there, redirected("br0 out", there.from("198.51.100.1:5000").withTTL(63)))
		}
		d.expectFlows(t, before...)
	})
	t.Run("F-14 with no room at all", func(t *testing.T) {
		d.reset(t)
		d.change(t, func(s *state.State) {})
		for i := range 5 {
			if err := d.coll.Maps["flows4_new"].Put(bpf.FlowKey{Saddr: uint32(i + 1)}, bpf.Flow{}); err != nil {
				t.Fatal(err)
			}
		}
		d.expect(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"), dropped("flow_table"))
		if n := len(d.flowRows(t)); n != 5 {
			t.Errorf("%d entries", n)
		}
	})
}
