package packet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// arp is a container's question for who has 172.17.0.3, as what it says its own addresses are.
func arp(sender, addr string) frame {
	a := netip.MustParseAddr(addr).As4()
	body := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, mac(sender)...)
	body = append(append(append(body, a[:]...), make([]byte, 6)...), 172, 17, 0, 3)
	return tcp("172.17.0.2:1", "172.17.0.3:1", "S").put16(atEtherType, 0x0806).edit(func(b []byte) []byte { return append(b[:14:14], body...) })
}

// spoofing lets the containers of br0 send from any address.
func (w *world) spoofing(s *state.State) {
	w.setBridge(s, "br0", bpf.DatapathBridgeFlagBRIDGE_SPOOFING, 0)
}

// ruleSet writes compiled rules by hand.
type ruleSet struct{ s *state.State }

func newRules(s *state.State) ruleSet {
	s.Policy = state.Policy{
		Idents: map[bpf.AddrKey]bpf.Ident{}, Classes: map[bpf.ClassKey]bpf.Class{}, Pairs: map[bpf.PairKey]bpf.Pair{},
		Profiles: map[bpf.ProfileKey]bpf.Profile{},
	}
	return ruleSet{s}
}

// select says what rules call a container; its veth is marked as the agent would.
func (r ruleSet) selects(at string, class uint32, egress, ingress bpf.ProfileID) {
	r.s.Policy.Idents[addrKey(at)] = bpf.Ident{Class: class, Egress: egress, Ingress: ingress}
	ep := r.s.Endpoints[addrKey(at)]
	v := r.s.Veths[ep.Ifindex]
	if egress != 0 {
		v.Flags |= bpf.DatapathVethFlagVETH_EGRESS
	}
	if ingress != 0 {
		v.Flags |= bpf.DatapathVethFlagVETH_INGRESS
	}
	r.s.Veths[ep.Ifindex] = v
}

func (r ruleSet) class(prefix string, class uint32) {
	p := netip.MustParsePrefix(prefix)
	r.s.Policy.Classes[bpf.ClassKey{Prefixlen: 32 + uint32(p.Bits()), Addr: bpf.Addr(p.Addr())}] = bpf.Class{Class: class}
}

func (r ruleSet) pair(from, to uint32, egress, ingress bpf.ProfileID) {
	r.s.Policy.Pairs[bpf.PairKey{From: from, To: to}] = bpf.Pair{Egress: egress, Ingress: ingress}
}

// profile refuses by rule 10*id, and lets each of the ports pass by rule 10*id+1.
func (r ruleSet) profile(id uint32, allowed ...bpf.ProfileKey) {
	r.s.Policy.Profiles[bpf.ProfileKey{Prefixlen: 64, Profile: id}] = bpf.Profile{Rule: 10 * id}
	for _, k := range allowed {
		k.Profile = id
		r.s.Policy.Profiles[k] = bpf.Profile{Allow: 1, Rule: 10*id + 1}
	}
}

func anyPort() bpf.ProfileKey { return bpf.ProfileKey{Prefixlen: 64} }
func ports(proto uint8, port uint16, bits uint32) bpf.ProfileKey {
	return bpf.ProfileKey{Prefixlen: 80 + bits, Proto: proto, Port: bpf.Port(port)}
}

// The rules that most cases have. c1 (class 1) may send anything to 192.0.2.0/25 (class 5), to c2 (class 2) by TCP ports 80 to 83, and nothing
// else; c2 may be sent UDP port 53 by anybody, by c1 and by 192.0.2.10 (class 6) TCP port 80 beside it. c2 may send nothing.
func (w *world) ruled(s *state.State) {
	r := newRules(s)
	r.selects("172.17.0.2", 1, 1, 0)
	r.selects("172.17.0.3", 2, 2, 3)
	r.class("192.0.2.0/25", 5)
	r.class("192.0.2.10/32", 6)
	r.profile(1)
	r.profile(2)
	r.profile(3, ports(17, 53, 16))
	r.profile(4, ports(6, 80, 14))
	r.profile(5, ports(17, 53, 16), ports(6, 80, 16))
	r.profile(6, anyPort())
	r.pair(1, 2, 4, 5)
	r.pair(1, 5, 6, 0)
	r.pair(1, 6, 6, 0)
	r.pair(6, 2, 0, 5)
}

func with(changes ...func(*state.State)) func(*state.State) {
	return func(s *state.State) {
		for _, c := range changes {
			c(s)
		}
	}
}

// testRules: rules hold on every path, for what Docker's rules would let through too. What they do not select they do not touch.
func testRules(t *testing.T, d *datapath) {
	const egress, ingress = "policy_egress", "policy_ingress"
	c1, c2, w := fromContainer("c1"), fromContainer("c2"), d.w
	published := func(s *state.State) {
		w.ruled(s)
		publish(s, "tcp", "0.0.0.0:8080", "172.17.0.3:80")
		publish(s, "tcp", "0.0.0.0:8081", "172.17.0.3:81")
	}
	viaGateway := func(f frame) frame { return f.macs(w.devices["c1"].containerMAC(), w.devices["br0"].mac) }
	local := func(port string) frame { return tcp("172.17.0.2:40000", "172.17.0.3:"+port, "S") }
	localFlows := []string{
		"new local tcp 172.17.0.2:40000>172.17.0.3:80 peer c2",
		"new local tcp 172.17.0.3:80>172.17.0.2:40000 peer c1",
	}
	pieces := udp("172.17.0.2:1", "172.17.0.3:54").data(make([]byte, 3000)).pieces(1480)
	first, later := pieces[0], pieces[1]
	cases := []packetCase{
		{name: "local, allowed", change: w.ruled, hook: c1, in: local("80"), want: redirected("br0 local", local("80")), flows: localFlows},
		{name: "local, a port that the sender may not", change: w.ruled, hook: c1, in: local("84"), want: dropped(egress)},
		{name: "local, a port that the receiver may not", change: w.ruled, hook: c1, in: local("83"), want: dropped(ingress)},
		{name: "local, another protocol", change: w.ruled, hook: c1, in: udp("172.17.0.2:1", "172.17.0.3:80"), want: dropped(egress)},
		{name: "local, ping", change: w.ruled, hook: c1, in: echo("172.17.0.2", "172.17.0.3", 9), want: dropped(egress)},
		{name: "local, the middle of a connection", change: w.ruled, hook: c1, in: tcp("172.17.0.2:1", "172.17.0.3:84", "A"), want: dropped(egress)},
		{name: "the middle of a connection, over docker's rules", change: with(w.overRules, w.ruled), hook: c1,
			in: tcp("172.17.0.2:1", "172.17.0.3:84", "A"), want: dropped(egress)},
		{name: "over docker's rules", change: with(w.overRules, w.ruled), hook: c1, in: local("84"), want: dropped(egress)},
		{name: "another bridge, over docker's rules", change: with(w.overRules, w.ruled), hook: c1, in: local("1").to("172.18.0.2:1"), want: dropped(egress)},
		{name: "by way of the gateway", change: w.ruled, hook: c1, in: viaGateway(local("84")), want: dropped(egress)},
		{name: "by way of a container that routes", change: w.ruled, hook: c1,
			in: local("84").macs(w.devices["c1"].containerMAC(), w.devices["s1"].containerMAC()), want: dropped(egress)},
		{name: "an address of the bridge that no endpoint has", change: w.ruled, hook: c1, in: local("80").to("172.17.0.99:80"), want: dropped(egress)},
		{name: "answers are allowed", change: w.ruled, before: []sent{{c1, local("80")}}, hook: c2, in: tcp("172.17.0.3:80", "172.17.0.2:40000", "SA"),
			want: redirected("br0 local", tcp("172.17.0.3:80", "172.17.0.2:40000", "SA")), flows: localFlows},
		{name: "what is no answer is not", change: w.ruled, hook: c2, in: tcp("172.17.0.3:80", "172.17.0.2:40000", "SA"), want: dropped(egress)},
		{name: "out, allowed", change: w.ruled, hook: c1, in: tcp("172.17.0.2:40000", "192.0.2.9:80", "S"),
			want: redirected("br0 out", tcp("198.51.100.1:40000", "192.0.2.9:80", "S").withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>192.0.2.9:80 = 198.51.100.1:40000>192.0.2.9:80 neigh up0",
				"new wire tcp 192.0.2.9:80>198.51.100.1:40000 = 192.0.2.9:80>172.17.0.2:40000 peer c1",
			}},
		{name: "out, not allowed", change: w.ruled, hook: c1, in: tcp("172.17.0.2:40000", "192.0.2.200:80", "S"), want: dropped(egress)},
		{name: "out by a device that is no uplink, over docker's rules", change: with(w.overRules, w.ruled), hook: c1,
			in: udp("172.17.0.2:1", "10.8.0.9:53"), want: dropped(egress)},
		{name: "to the host", change: w.ruled, hook: c1, in: tcp("172.17.0.2:40000", "172.17.0.1:22", "S"), want: dropped(egress)},
		{name: "to a multicast group", change: w.ruled, hook: c1, in: udp("172.17.0.2:1", "224.0.0.251:5353"), want: dropped(egress)},
		{name: "to a multicast group, from no address of its own", change: w.ruled, hook: c1, in: udp("0.0.0.0:68", "255.255.255.255:67"), want: dropped(egress)},
		{name: "not ipv4", change: w.ruled, hook: c1, in: local("80").put16(atEtherType, 0x86dd), want: dropped(egress)},
		{name: "arp", change: w.ruled, hook: c1, in: arp("0a:00:00:00:17:02", "172.17.0.2"), want: passed("not_ipv4")},
		{name: "from the host", change: w.ruled, hook: toBridge("br0"), in: tcp("172.17.0.1:40000", "172.17.0.3:9", "S"),
			want: redirected("br0 host", tcp("172.17.0.1:40000", "172.17.0.3:9", "S")),
			flows: []string{
				"new local tcp 172.17.0.1:40000>172.17.0.3:9 dev c2",
				"new local tcp 172.17.0.3:9>172.17.0.1:40000 stack",
			}},
		{name: "forwarded by the stack, over docker's rules", change: with(w.overRules, w.ruled), hook: toBridge("br0"),
			in: tcp("10.9.0.5:40000", "172.17.0.3:80", "S"), want: dropped(ingress)},
		{name: "forwarded by the stack, of a connection", change: with(w.overRules, w.ruled), hook: toBridge("br0"),
			in: tcp("10.9.0.5:40000", "172.17.0.3:80", "A"), want: passed("rules")},
		{name: "published, allowed", change: published, hook: fromUplink("up0"), in: tcp("192.0.2.10:40000", "198.51.100.1:8080", "S"),
			want: redirected("br0 in", tcp("192.0.2.10:40000", "172.17.0.3:80", "S").withTTL(63).macs(w.gateway("c2"))),
			flows: []string{
				"new wire tcp 192.0.2.10:40000>198.51.100.1:8080 = 192.0.2.10:40000>172.17.0.3:80 peer c2",
				"new local tcp 172.17.0.3:80>192.0.2.10:40000 = 198.51.100.1:8080>192.0.2.10:40000 neigh up0",
			}},
		{name: "published, by whom it is not for", change: published, hook: fromUplink("up0"), in: tcp("192.0.2.11:40000", "198.51.100.1:8080", "S"), want: dropped(ingress)},
		{name: "published, over docker's rules", change: with(w.overRules, published), hook: fromUplink("up0"),
			in: tcp("192.0.2.11:40000", "198.51.100.1:8080", "S"), want: dropped(ingress)},
		{name: "published, the middle of a connection, over docker's rules", change: with(w.overRules, published), hook: fromUplink("up0"),
			in: tcp("192.0.2.11:40000", "198.51.100.1:8080", "A"), want: dropped(ingress)},
		{name: "hairpin, by the container's port", change: published, hook: c1, in: tcp("172.17.0.2:40000", "198.51.100.1:8080", "S"),
			want: redirected("br0 local", tcp("172.17.0.2:40000", "172.17.0.3:80", "S").withTTL(63).macs(w.gateway("c2"))),
			flows: []string{
				"new local tcp 172.17.0.2:40000>198.51.100.1:8080 = 172.17.0.2:40000>172.17.0.3:80 peer c2",
				"new local tcp 172.17.0.3:80>172.17.0.2:40000 = 198.51.100.1:8080>172.17.0.2:40000 peer c1",
			}},
		{name: "hairpin, a port that is not for it", change: published, hook: c1, in: tcp("172.17.0.2:40000", "198.51.100.1:8081", "S"), want: dropped(ingress)},
		{name: "hairpin, to itself", change: func(s *state.State) { published(s); publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80") },
			hook: c1, in: tcp("172.17.0.2:40000", "198.51.100.1:8080", "S"),
			want: redirected("br0 local", tcp("172.17.0.1:40000", "172.17.0.2:80", "S").withTTL(63).macs(w.gateway("c1"))),
			flows: []string{
				"new local tcp 172.17.0.2:40000>198.51.100.1:8080 = 172.17.0.1:40000>172.17.0.2:80 peer c1",
				"new local tcp 172.17.0.2:80>172.17.0.1:40000 = 198.51.100.1:8080>172.17.0.2:40000 peer c1",
			}},
		{name: "to another host's container", change: with(w.network, w.ruled), hook: c1, in: tcp("172.17.0.2:40000", "10.200.2.5:80", "S"), want: dropped(egress)},
		{name: "from another host's container", change: with(w.network, w.ruled), hook: fromUplink("up0"),
			in: tcp("10.200.3.5:40000", "172.17.0.3:80", "S"), want: dropped(ingress)},
		{name: "C-8 the first piece", change: w.ruled, hook: c1, in: first, want: dropped(egress)},
		{name: "C-8 a later piece", change: w.ruled, before: []sent{{c1, first}}, hook: c1, in: later, want: dropped(egress)},
		{name: "C-8 a later piece, over docker's rules", change: with(w.overRules, w.ruled), before: []sent{{c1, first}}, hook: c1,
			in: later, want: dropped(egress)},
		{name: "what leaves by the stack", change: w.ruled, hook: toUplink("up0"), in: tcp("172.17.0.3:40000", "192.0.2.10:80", "S"), want: dropped(egress)},
		{name: "whom no rule selects", change: w.ruled, hook: fromContainer("d1"), in: tcp("172.18.0.2:1", "172.18.0.1:22", "S"),
			want: stacked("br1 host", tcp("172.18.0.2:1", "172.18.0.1:22", "S")),
			flows: []string{
				"new local tcp 172.18.0.2:1>172.18.0.1:22 stack",
				"new local tcp 172.18.0.1:22>172.18.0.2:1 dev d1",
			}},
		{name: "rules that could not be written", hook: c1, in: tcp("172.17.0.2:40000", "192.0.2.9:80", "S"), want: dropped(egress), change: func(s *state.State) {
			newRules(s).selects("172.17.0.2", 1, bpf.DatapathProfileIdPROFILE_CLOSED, 0)
		}},
	}
	d.runCases(t, cases)
	t.Run("changed", func(t *testing.T) { d.testRulesChanged(t) })
	t.Run("told", func(t *testing.T) { d.testRulesTold(t) })
	t.Run("arrivals", func(t *testing.T) { d.testArrivals(t) })
	t.Run("published", func(t *testing.T) { d.testPublishedFor(t) })
	t.Run("egress address", func(t *testing.T) { d.testEgressAddress(t) })
}

// testRulesChanged: G-6 G-7: a change of the rules is for established flows too, whichever side sends first.
func (d *datapath) testRulesChanged(t *testing.T) {
	for _, world := range []struct {
		name   string
		change func(*state.State)
	}{{"native", func(*state.State) {}}, {"over docker's rules", d.w.overRules}} {
		for _, first := range []string{"c1", "c2"} {
			t.Run(world.name+", "+first+" first", func(t *testing.T) {
				d.reset(t)
				d.change(t, world.change)
				there, back := tcp("172.17.0.2:40000", "172.17.0.3:84", "S"), tcp("172.17.0.3:84", "172.17.0.2:40000", "SA")
				d.send(t, fromContainer("c1"), there)
				d.send(t, fromContainer("c2"), back)
				d.expect(t, fromContainer("c1"), there, redirected("br0 local", there))
				d.change(t, with(world.change, d.w.ruled))
				there.flags, back.flags = "A", "A"
				if first == "c1" {
					d.expect(t, fromContainer("c1"), there, dropped("policy_egress"))
					d.expect(t, fromContainer("c2"), back, dropped("policy_egress"))
				} else {
					d.expect(t, fromContainer("c2"), back, dropped("policy_egress"))
					d.expect(t, fromContainer("c1"), there, dropped("policy_egress"))
				}
				d.expectFlows(t)
			})
		}
		t.Run(world.name+", still allowed", func(t *testing.T) {
			d.reset(t)
			d.change(t, world.change)
			there, back := tcp("172.17.0.2:40000", "172.17.0.3:80", "S"), tcp("172.17.0.3:80", "172.17.0.2:40000", "SA")
			d.send(t, fromContainer("c1"), there)
			d.send(t, fromContainer("c2"), back)
			d.change(t, with(world.change, d.w.ruled))
			d.expect(t, fromContainer("c2"), back, redirected("br0 local", back))
			d.expect(t, fromContainer("c1"), there, redirected("br0 local", there))
		})
	}
}

// testRulesTold: the event of a packet says which rule decided.
func (d *datapath) testRulesTold(t *testing.T) {
	for _, c := range []struct {
		name string
		in   frame
		want uint32
	}{
		{"allowed by the receiver's", tcp("172.17.0.2:40000", "172.17.0.3:80", "S"), 51},
		{"refused by the sender's", tcp("172.17.0.2:40000", "172.17.0.3:84", "S"), 40},
		{"refused by the receiver's", tcp("172.17.0.2:40000", "172.17.0.3:83", "S"), 50},
		{"a flow that is known is not judged", tcp("172.17.0.2:40000", "172.17.0.3:80", "S"), 0},
	} {
		if c.want != 0 {
			d.reset(t)
			d.change(t, d.w.ruled)
		} else {
			d.send(t, fromContainer("c1"), c.in)
		}
		events, stop := d.watching(t, bpf.DatapathMonitorBitMONITOR_DROPS|bpf.DatapathMonitorBitMONITOR_TRACE)
		d.send(t, fromContainer("c1"), c.in)
		var got []uint32
		for _, e := range events() {
			got = append(got, e.Rule)
		}
		stop()
		if diff := cmp.Diff([]uint32{c.want}, got); diff != "" {
			t.Errorf("%s: rules (-want +got)\n%s", c.name, diff)
		}
	}
}

// testArrivals: what the bridge brings to a container by itself is judged at its door.
func (d *datapath) testArrivals(t *testing.T) {
	const left = 0xeb01
	_, to := d.w.gateway("c2")
	stranger, c1 := d.w.devices["s1"].containerMAC(), d.w.devices["c1"].containerMAC()
	from := func(f frame) frame { return f.macs(stranger, to) }
	dials := udp("172.17.0.3:4000", "172.17.0.9:9")
	for _, c := range []struct {
		name    string
		change  func(*state.State)
		before  []sent
		from    string
		frame   frame
		mark    uint32
		dropped string
	}{
		{name: "a stranger", from: "s1", frame: from(tcp("172.17.0.9:1", "172.17.0.3:80", "S")), dropped: "policy_ingress"},
		{name: "a stranger, to a port that is for all", from: "s1", frame: from(udp("172.17.0.9:1", "172.17.0.3:53"))},
		{name: "a stranger, in the middle of a connection", from: "s1", frame: from(tcp("172.17.0.9:1", "172.17.0.3:80", "A"))},
		{name: "a stranger, where nothing is ruled", change: func(*state.State) {}, from: "s1", frame: from(tcp("172.17.0.9:1", "172.17.0.3:80", "S"))},
		{name: "a stranger with a container's address", from: "s1", frame: from(tcp("172.17.0.2:1", "172.17.0.3:84", "S")), dropped: "policy_egress"},
		{name: "multicast", from: "c1", mark: left, frame: udp("172.17.0.2:1", "224.0.0.1:53").macs(c1, to), dropped: "policy_ingress"},
		{name: "not ipv4", from: "c1", mark: left, frame: tcp("172.17.0.2:1", "172.17.0.3:80", "S").put16(atEtherType, 0x86dd).macs(c1, to), dropped: "policy_ingress"},
		{name: "arp", from: "c1", mark: left, frame: arp("0a:00:00:00:17:02", "172.17.0.2").macs(c1, to)},
		{name: "who was asked where he sent it", from: "c1", mark: left, frame: tcp("172.17.0.2:1", "172.17.0.3:84", "A").macs(c1, to)},
		{name: "the host", frame: tcp("172.17.0.1:1", "172.17.0.3:84", "S").macs(d.w.devices["br0"].mac, to)},
		{name: "a stranger's answer", from: "s1", frame: from(udp("172.17.0.9:9", "172.17.0.3:4000")),
			change: func(s *state.State) { r := newRules(s); r.profile(3); r.selects("172.17.0.3", 2, 0, 3) },
			before: []sent{{fromContainer("c2"), dials}}},
		{name: "a stranger's question", from: "s1", frame: from(udp("172.17.0.9:9", "172.17.0.3:4000")), dropped: "policy_ingress",
			change: func(s *state.State) { r := newRules(s); r.profile(3); r.selects("172.17.0.3", 2, 0, 3) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			if c.change == nil {
				c.change = d.w.ruled
			}
			d.change(t, c.change)
			for _, b := range c.before {
				d.send(t, b.hook, b.frame)
			}
			before := d.counters(t)
			in := skb{IngressIfindex: d.w.devices[c.from].index}
			in.CB[cbMarkIn] = c.mark
			r := d.run(t, toContainer("c2"), c.frame.bytes(), in)
			want, verdict := map[string]uint64{}, int32(verdictNext)
			if c.dropped != "" {
				want["drop "+c.dropped], verdict = 1, verdictDrop
			}
			if r.verdict != verdict {
				t.Errorf("verdict is %d, want %d", r.verdict, verdict)
			}
			if diff := cmp.Diff(want, moved(before, d.counters(t))); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
		})
	}
}

// testPublishedFor: a published port that is only for some, or only by one device.
func (d *datapath) testPublishedFor(t *testing.T) {
	restrict := func(from uint32, uplink string) func(*state.State) {
		return func(s *state.State) {
			publish(s, "tcp", "0.0.0.0:8080", "172.17.0.3:80")
			for k, p := range s.Publish {
				p.From, p.Uplink = from, d.w.devices[uplink].index
				s.Publish[k] = p
			}
			allow := func(id uint32, prefix string) {
				p := netip.MustParsePrefix(prefix)
				s.PublishFrom[bpf.PublishFromKey{Prefixlen: 32 + uint32(p.Bits()), Id: id, Addr: bpf.Addr(p.Addr())}] = bpf.PublishFrom{Allow: 1}
			}
			s.PublishFrom = map[bpf.PublishFromKey]bpf.PublishFrom{}
			allow(1, "192.0.2.0/28")
			allow(2, "172.17.0.2/32")
		}
	}
	syn := func(from string) frame { return tcp(from, "198.51.100.1:8080", "S") }
	in := redirected("br0 in", tcp("192.0.2.10:40000", "172.17.0.3:80", "S").withTTL(63).macs(d.w.gateway("c2")))
	flows := []string{
		"new wire tcp 192.0.2.10:40000>198.51.100.1:8080 = 192.0.2.10:40000>172.17.0.3:80 peer c2",
		"new local tcp 172.17.0.3:80>192.0.2.10:40000 = 198.51.100.1:8080>192.0.2.10:40000 neigh up0",
	}
	cases := []packetCase{
		{name: "one of them", change: restrict(1, ""), hook: fromUplink("up0"), in: syn("192.0.2.10:40000"), want: in, flows: flows},
		{name: "another", change: restrict(1, ""), hook: fromUplink("up0"), in: syn("192.0.2.16:40000"), want: dropped("publish_from")},
		{name: "another, over docker's rules", change: with(d.w.overRules, restrict(1, "")), hook: fromUplink("up0"), in: syn("192.0.2.16:40000"),
			want: dropped("publish_from")},
		{name: "a container that is not one of them", change: restrict(1, ""), hook: fromContainer("c1"), in: syn("172.17.0.2:40000"), want: dropped("publish_from")},
		{name: "a container that is", change: restrict(2, ""), hook: fromContainer("c1"), in: syn("172.17.0.2:40000"),
			want: redirected("br0 local", tcp("172.17.0.2:40000", "172.17.0.3:80", "S").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local tcp 172.17.0.2:40000>198.51.100.1:8080 = 172.17.0.2:40000>172.17.0.3:80 peer c2",
				"new local tcp 172.17.0.3:80>172.17.0.2:40000 = 198.51.100.1:8080>172.17.0.2:40000 peer c1",
			}},
		{name: "by its device", change: restrict(0, "up0"), hook: fromUplink("up0"), in: syn("192.0.2.10:40000"), want: in, flows: flows},
		{name: "by another", change: restrict(0, "up1"), hook: fromUplink("up0"), in: syn("192.0.2.10:40000"), want: dropped("publish_uplink")},
		{name: "by whom it is not on this host's devices", change: restrict(0, "up1"), hook: fromContainer("c1"), in: syn("172.17.0.2:40000"),
			want: redirected("br0 local", tcp("172.17.0.2:40000", "172.17.0.3:80", "S").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local tcp 172.17.0.2:40000>198.51.100.1:8080 = 172.17.0.2:40000>172.17.0.3:80 peer c2",
				"new local tcp 172.17.0.3:80>172.17.0.2:40000 = 198.51.100.1:8080>172.17.0.2:40000 peer c1",
			}},
	}
	d.runCases(t, cases)
	t.Run("an established flow", func(t *testing.T) {
		d.reset(t)
		d.change(t, func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.17.0.3:80") })
		d.send(t, fromUplink("up0"), syn("192.0.2.16:40000"))
		d.send(t, fromContainer("c2"), tcp("172.17.0.3:80", "192.0.2.16:40000", "SA"))
		d.change(t, restrict(1, ""))
		ack := syn("192.0.2.16:40000")
		ack.flags = "A"
		d.expect(t, fromUplink("up0"), ack, dropped("publish_from"))
		d.expectFlows(t)
	})
}

// testEgressAddress: a container that leaves with an address of its own.
func (d *datapath) testEgressAddress(t *testing.T) {
	leaves := func(addr uint32) func(*state.State) {
		return func(s *state.State) {
			ep := s.Endpoints[addrKey("172.17.0.2")]
			ep.Egress = addr
			s.Endpoints[addrKey("172.17.0.2")] = ep
		}
	}
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	d.runCases(t, []packetCase{
		{name: "with it", change: leaves(addr("203.0.113.1")), hook: fromContainer("c1"), in: syn,
			want: redirected("br0 out", syn.from("203.0.113.1:40000").withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>192.0.2.10:80 = 203.0.113.1:40000>192.0.2.10:80 neigh up0",
				"new wire tcp 192.0.2.10:80>203.0.113.1:40000 = 192.0.2.10:80>172.17.0.2:40000 peer c1",
			}},
		{name: "it is not there", change: leaves(bpf.EgressNone), hook: fromContainer("c1"), in: syn, want: dropped("no_address")},
	})
	t.Run("an established flow", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), syn)
		d.change(t, leaves(addr("203.0.113.1")))
		d.expect(t, fromContainer("c1"), syn, redirected("br0 out", syn.from("203.0.113.1:40000").withTTL(63)))
	})
}
