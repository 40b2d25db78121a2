package packet

import (
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// expectTables checks in which table all entries stand.
func (d *datapath) expectTables(tb testing.TB, entries int, word string) {
	tb.Helper()
	lines := d.flows(tb)
	for _, l := range lines {
		if !strings.HasPrefix(l, word) {
			tb.Errorf("entry is not in the %s table: %s", word, l)
		}
	}
	if len(lines) != entries {
		tb.Errorf("%d entries, want %d", len(lines), entries)
	}
}

// F-8: a flow moves to the table of answered flows with its originator's second packet, after an answer, and not before.
func testPromotion(t *testing.T, d *datapath) {
	for _, c := range evictCases(d) {
		t.Run("F-8 "+c.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, publishWeb)
			d.expect(t, c.forward.hook, c.forward.frame, c.out)
			d.expect(t, c.forward.hook, c.forward.frame, c.out)
			d.expectTables(t, 2, "new")
			d.expect(t, c.reply.hook, c.reply.frame, c.back)
			d.expect(t, c.reply.hook, c.reply.frame, c.back)
			d.expectTables(t, 2, "new")
			d.expect(t, c.forward.hook, c.forward.frame, c.out)
			d.expectTables(t, 2, "old")
			d.expect(t, c.reply.hook, c.reply.frame, c.back)
			d.expectTables(t, 2, "old")
			if f, _ := d.flow(t, c.key); f.Packets != 3 || f.Flags&bpf.DatapathFlowFlagFLOW_REPLY != 0 {
				t.Errorf("the originator's entry has %d packets, want 3; flags %#x", f.Packets, f.Flags)
			}
			if f, _ := d.flow(t, c.inverse); f.Packets != 3 || f.Flags&bpf.DatapathFlowFlagFLOW_REPLY == 0 {
				t.Errorf("the answers' entry has %d packets, want 3; flags %#x", f.Packets, f.Flags)
			}
		})
	}
}

// F-1, E-15: a SYN on the tuple of a connection that is over begins another; on one that is not, it is a packet of it.
func testReopen(t *testing.T, d *datapath) {
	syn, back := tcp("172.17.0.2:40000", "192.0.2.10:80", "S"), tcp("192.0.2.10:80", "198.51.100.1:40000", "SA")
	out, in := fromContainer("c1"), fromUplink("up0")
	for _, c := range []struct {
		name   string
		ending []sent
		fresh  bool
	}{
		{"F-1 nothing", nil, false},
		{"F-6 one side has closed", []sent{{out, tcp(syn.src, syn.dst, "FA")}}, false},
		{"F-1 both sides have closed", []sent{{out, tcp(syn.src, syn.dst, "FA")}, {in, tcp(back.src, back.dst, "FA")}}, true},
		{"F-1 reset by the container", []sent{{out, tcp(syn.src, syn.dst, "R")}}, true},
		{"F-1 reset by the peer", []sent{{in, tcp(back.src, back.dst, "R")}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			for _, p := range append([]sent{{out, syn}, {in, back}, {out, tcp(syn.src, syn.dst, "A")}}, c.ending...) {
				// F-7: what ends a connection is translated and delivered as well.
				if r := d.send(t, p.hook, p.frame); r.verdict != verdictRedirect {
					t.Fatalf("%s %s: verdict is %d", p.hook, p.frame.flags, r.verdict)
				}
			}
			d.expectTables(t, 2, "old")
			// F-2: nothing but a SYN ends the entry.
			d.expect(t, in, tcp(back.src, back.dst, "A"), redirected("br0 out", tcp(back.src, "172.17.0.2:40000", "A").withTTL(63).macs(d.w.gateway("c1"))))
			before, _ := d.flow(t, local("tcp", syn.src, syn.dst))
			d.expect(t, out, syn, redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)))
			after, _ := d.flow(t, local("tcp", syn.src, syn.dst))
			if c.fresh != (after.Packets == 1) {
				t.Errorf("the entry has %d packets, and had %d before; a new one is expected: %v", after.Packets, before.Packets, c.fresh)
			}
			if c.fresh {
				d.expectTables(t, 2, "new")
			}
			d.expectPairs(t)
		})
	}
}

// E-17: a stray packet from outside to a container's tuple leaves nothing that would make the container's own connection an answer.
func testPhantom(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	for _, c := range []struct {
		name  string
		rules bool
		stray []sent
	}{
		{"native, to the host's address", false, []sent{{fromUplink("up0"), tcp("192.0.2.10:80", "198.51.100.1:40000", "A")}}},
		{"native, to the container's address", false, []sent{
			{fromUplink("up0"), tcp("192.0.2.10:80", "172.17.0.2:40000", "A")}, {toBridge("br0"), tcp("192.0.2.10:80", "172.17.0.2:40000", "A")},
		}},
		{"over docker's rules, to the container's address", true, []sent{
			{fromUplink("up0"), tcp("192.0.2.10:80", "172.17.0.2:40000", "A")}, {toBridge("br0"), tcp("192.0.2.10:80", "172.17.0.2:40000", "A")},
		}},
	} {
		t.Run("E-17 "+c.name, func(t *testing.T) {
			d.reset(t)
			if c.rules {
				d.change(t, d.w.overRules)
			}
			for _, p := range c.stray {
				d.send(t, p.hook, p.frame)
			}
			d.expectFlows(t)
			d.expect(t, fromContainer("c1"), syn, redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)))
			d.expectFlows(t, opened()...)
		})
	}
}

// F-12, H-14, F-13: a published port that leads to another container from now on, under a client that never changes its port.
func testMoved(t *testing.T, d *datapath) {
	client := udp("192.0.2.10:5000", "198.51.100.1:8080")
	up := fromUplink("up0")
	lead := func(to string) func(*state.State) {
		return func(s *state.State) { publish(s, "udp", "0.0.0.0:8080", to) }
	}
	start := func(t *testing.T) {
		d.reset(t)
		d.change(t, lead("172.17.0.2:53"))
		for range 2 {
			d.expect(t, up, client, redirected("br0 in", client.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1"))))
			answer := udp("172.17.0.2:53", "192.0.2.10:5000")
			d.expect(t, fromContainer("c1"), answer, redirected("br0 in", answer.from("198.51.100.1:8080").withTTL(63)))
		}
		d.expectTables(t, 2, "old")
	}
	t.Run("F-12 H-14 another container", func(t *testing.T) {
		start(t)
		d.change(t, lead("172.17.0.3:53"))
		d.expect(t, up, client, redirected("br0 in", client.to("172.17.0.3:53").withTTL(63).macs(d.w.gateway("c2"))))
		answer := udp("172.17.0.3:53", "192.0.2.10:5000")
		d.expect(t, fromContainer("c2"), answer, redirected("br0 in", answer.from("198.51.100.1:8080").withTTL(63)))
		d.expectPairs(t)
	})
	t.Run("H-14 another port", func(t *testing.T) {
		start(t)
		d.change(t, lead("172.17.0.2:54"))
		d.expect(t, up, client, redirected("br0 in", client.to("172.17.0.2:54").withTTL(63).macs(d.w.gateway("c1"))))
	})
	t.Run("F-13 not published any more", func(t *testing.T) {
		start(t)
		d.change(t, func(*state.State) {})
		d.expect(t, up, client, passed("not_ours"))
		d.expectFlows(t)
	})
	t.Run("E-16 F-12 the container came back with another id", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) {
			ep := s.Endpoints[addrKey("172.17.0.2")]
			ep.Id, ep.Slot = 9999, 99
			s.Endpoints[addrKey("172.17.0.2")] = ep
			lead("172.17.0.2:53")(s)
		})
		d.expect(t, up, client, redirected("br0 in", client.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1"))))
		if f, _ := d.flow(t, wire("udp", "192.0.2.10:5000", "198.51.100.1:8080")); f.DstId != 9999 {
			t.Errorf("the entry is still that of endpoint %d", f.DstId)
		}
	})
	t.Run("E-11 H-7 the host's address is gone", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) {
			lead("172.17.0.2:53")(s)
			delete(s.HostAddrs, addrKey("198.51.100.1"))
		})
		d.expect(t, up, client, passed("not_ours"))
	})
	t.Run("a change of something else", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) {
			lead("172.17.0.2:53")(s)
			publish(s, "udp", "0.0.0.0:9999", "172.17.0.3:53")
		})
		before, _ := d.flow(t, wire("udp", "192.0.2.10:5000", "198.51.100.1:8080"))
		d.expect(t, up, client, redirected("br0 in", client.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1"))))
		if after, _ := d.flow(t, wire("udp", "192.0.2.10:5000", "198.51.100.1:8080")); after.Packets != before.Packets+1 {
			t.Errorf("the entry was made anew: %d packets, %d before", after.Packets, before.Packets)
		}
	})
	t.Run("G-6 the bridge is internal now", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) {
			lead("172.17.0.2:53")(s)
			d.w.setBridge(s, "br0", bpf.DatapathBridgeFlagBRIDGE_INTERNAL, 0)
		})
		d.expect(t, up, client, dropped("internal"))
		d.expect(t, fromContainer("c1"), udp("172.17.0.2:53", "192.0.2.10:5000"), dropped("internal"))
	})
}

// E-16, G-12, G-13: what an address stands for has changed; no packet goes by an entry from before.
func testEndpointChanged(t *testing.T, d *datapath) {
	there, back := udp("172.17.0.2:5000", "192.0.2.10:53"), udp("192.0.2.10:53", "198.51.100.1:5000")
	start := func(t *testing.T) {
		d.reset(t)
		for range 2 {
			d.send(t, fromContainer("c1"), there)
			d.send(t, fromUplink("up0"), back)
		}
		d.expectTables(t, 2, "old")
	}
	other := func(s *state.State, change func(*bpf.Endpoint)) {
		ep := s.Endpoints[addrKey("172.17.0.2")]
		change(&ep)
		s.Endpoints[addrKey("172.17.0.2")] = ep
	}
	t.Run("E-16 the container is gone: its answers are nobody's", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) { delete(s.Endpoints, addrKey("172.17.0.2")) })
		d.expect(t, fromUplink("up0"), back, passed("not_ours"))
		d.expectFlows(t)
	})
	t.Run("E-16 another container has its address: the answers are not its", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) { other(s, func(ep *bpf.Endpoint) { ep.Id = 9999 }) })
		d.expect(t, fromUplink("up0"), back, passed("not_ours"))
		d.expectFlows(t)
	})
	for _, id := range []uint32{1172, 9999} {
		moveTo := func(s *state.State) {
			other(s, func(ep *bpf.Endpoint) {
				ep.Id, ep.Ifindex, ep.Mac = id, d.w.devices["c2"].index, [6]byte(d.w.devices["c2"].containerMAC())
			})
		}
		name := map[uint32]string{1172: "as the same endpoint", 9999: "as another"}[id]
		t.Run("G-12 G-13 the address is behind another veth, "+name+": it sends first", func(t *testing.T) {
			start(t)
			d.change(t, moveTo)
			d.expect(t, fromContainer("c2"), there, redirected("br0 out", there.from("198.51.100.1:5000").withTTL(63)))
			d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to("172.17.0.2:5000").withTTL(63).macs(d.w.gateway("c2"))))
			for _, r := range d.flowRows(t) {
				if c1 := d.w.devices["c1"].index; r.flow.Iif == c1 || r.flow.Oif == c1 {
					t.Errorf("entry names the old veth: %s", d.describeFlow(r))
				}
			}
			d.expectPairs(t)
		})
		t.Run("G-12 the address is behind another veth, "+name+": an answer comes first", func(t *testing.T) {
			start(t)
			d.change(t, moveTo)
			d.send(t, fromUplink("up0"), back)
			for _, r := range d.flowRows(t) {
				if c1 := d.w.devices["c1"].index; r.flow.Oif == c1 {
					t.Errorf("entry sends to the old veth: %s", d.describeFlow(r))
				}
			}
		})
	}
	t.Run("G-5 a neighbour does not send by a container's flow", func(t *testing.T) {
		start(t)
		before := d.flows(t)
		d.expect(t, fromContainer("c2"), there, dropped("spoofed"))
		d.expect(t, fromContainer("s1"), there, dropped("spoofed"))
		d.expectFlows(t, before...)
	})
	t.Run("G-5 a container does not send by the host's flow to a neighbour", func(t *testing.T) {
		d.reset(t)
		f := tcp("172.17.0.1:40000", "172.17.0.3:80", "S")
		d.expect(t, toBridge("br0"), f, redirected("br0 host", f))
		d.expect(t, fromContainer("c1"), tcp("172.17.0.1:40000", "172.17.0.3:80", "R"), dropped("spoofed"))
	})
	t.Run("G-5 a container does not send by a stranger's flow", func(t *testing.T) {
		d.reset(t)
		f := tcp("172.17.0.9:40000", "192.0.2.10:80", "S")
		d.expect(t, fromBridge("br0"), f, redirected("br0 out", f.from("198.51.100.1:40000").withTTL(63)))
		r := d.send(t, fromContainer("c1"), tcp("172.17.0.9:40000", "192.0.2.10:80", "R"))
		if r.verdict == verdictRedirect {
			t.Error("a container's packet with the stranger's source was carried")
		}
	})
	t.Run("E-11 the address to leave with has changed", func(t *testing.T) {
		start(t)
		d.change(t, func(s *state.State) {
			b := s.Bridges[d.w.devices["br0"].index]
			b.Masquerade = addr("203.0.113.1")
			s.Bridges[d.w.devices["br0"].index] = b
			delete(s.HostAddrs, addrKey("198.51.100.1"))
		})
		d.expect(t, fromContainer("c1"), there, redirected("br0 out", there.from("203.0.113.1:5000").withTTL(63)))
		d.expect(t, fromUplink("up0"), back, passed("not_ours"))
		d.expectPairs(t)
	})
	t.Run("G-6 icc is off now", func(t *testing.T) {
		d.reset(t)
		syn := tcp("172.17.0.2:40000", "172.17.0.3:80", "S")
		d.send(t, fromContainer("c1"), syn)
		d.send(t, fromContainer("c2"), tcp("172.17.0.3:80", "172.17.0.2:40000", "SA"))
		d.send(t, fromContainer("c1"), syn)
		d.change(t, func(s *state.State) { d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_ICC) })
		d.expect(t, fromContainer("c1"), tcp("172.17.0.2:40000", "172.17.0.3:80", "A"), dropped("icc"))
		d.expect(t, fromContainer("c2"), tcp("172.17.0.3:80", "172.17.0.2:40000", "A"), dropped("icc"))
		d.expectFlows(t)
	})
}
