package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

const (
	offloads = bpf.DatapathBridgeFlagBRIDGE_OFFLOAD | dockerRules
	// offloadSeconds is OFFLOAD_SECONDS of offload.h.
	offloadSeconds = 2
)

// offloading has the host's own rules decide about br0, which publishes what publishWeb says.
func (w *world) offloading(s *state.State) {
	publishWeb(s)
	w.setBridge(s, "br0", offloads, 0)
}

// offloaded enters the flow of a case as the agent does: with the kernel's translation, and nothing carried yet.
func (d *datapath) offloaded(t *testing.T, c evictCase) {
	t.Helper()
	d.reset(t)
	d.change(t, publishWeb)
	for _, s := range []sent{c.forward, c.reply, c.forward} {
		d.send(t, s.hook, s.frame)
	}
	d.expectTables(t, 2, "old")
	d.change(t, d.w.offloading)
	for _, key := range []bpf.FlowKey{c.key, c.inverse} {
		d.edit(t, key, func(f *bpf.Flow) {
			f.Flags |= bpf.DatapathFlowFlagFLOW_OFFLOAD
			now := d.ticks(t)
			f.Epoch, f.Synced, f.Judged = d.epoch, now-1, now-offloadSeconds*d.ticksPerSecond(t)
		})
	}
}

func (d *datapath) edit(t *testing.T, key bpf.FlowKey, change func(*bpf.Flow)) {
	t.Helper()
	f, ok := d.flow(t, key)
	if !ok {
		t.Fatalf("no flow %+v", key)
	}
	change(&f)
	if err := d.coll.Maps["flows4"].Put(key, f); err != nil {
		t.Fatal(err)
	}
}

func (d *datapath) ticksPerSecond(t *testing.T) uint32 {
	t.Helper()
	var n uint32
	if err := d.coll.Variables["ticks_per_second"].Get(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// leaves lets the kernel send a packet that has passed its rules out of a device, where it came in by another, or by none: its own.
func (d *datapath) leaves(t *testing.T, h hook, f frame, by string) {
	t.Helper()
	f = d.w.addressed(h, f)
	r := d.run(t, h, f.bytes(), skb{IngressIfindex: d.w.devices[by].index})
	if r.verdict != verdictNext {
		t.Errorf("%s: a packet of the kernel's: verdict %d", h, r.verdict)
	}
	if got, want := describe(r.data), describe(f.bytes()); got != want {
		t.Errorf("%s: a packet of the kernel's is changed:\n%s\nwant\n%s", h, got, want)
	}
}

// offloadCase is a case with where its packets come out behind the rules, and under which reasons they go there.
type offloadCase struct {
	evictCase
	there, back         hook
	thereBy, backBy     string
	thereLeft, backLeft outcome
}

func offloadCases(d *datapath) []offloadCase {
	all := evictCases(d)
	return []offloadCase{
		{all[0], toUplink("up0"), toContainer("c1"), "br0", "up0", passed("rules"), passed("not_ours")},
		{all[1], toContainer("c1"), toUplink("up0"), "up0", "br0", passed("rules"), passed("rules")},
		{all[2], toContainer("c2"), toContainer("c1"), "c1", "c2", passed("rules"), passed("rules")},
	}
}

// K-11, G-10: an offloaded flow is carried, in each direction by itself, from the moment that the rules let a packet through, and for a short
// while; a change of the configuration ends that at once.
func testOffload(t *testing.T, d *datapath) {
	for _, c := range offloadCases(d) {
		t.Run("K-11 "+c.name, func(t *testing.T) {
			d.offloaded(t, c.evictCase)
			there := func(carried bool) {
				t.Helper()
				d.expect(t, c.forward.hook, c.forward.frame, map[bool]outcome{true: c.out, false: c.thereLeft}[carried])
			}
			back := func(carried bool) {
				t.Helper()
				d.expect(t, c.reply.hook, c.reply.frame, map[bool]outcome{true: c.evictCase.back, false: c.backLeft}[carried])
			}
			both := func(carried bool) { t.Helper(); there(carried); back(carried); there(carried); back(carried) }
			behind := func(h hook, f frame, by string) { t.Helper(); d.leaves(t, h, f, by) }
			both(false)
			behind(c.there, *c.out.out, "") // the host's own
			if h := c.there; h.prog == "to_uplink" {
				behind(toUplink("up1"), *c.out.out, c.thereBy) // another way than ours
			}
			both(false)
			behind(c.there, *c.out.out, c.thereBy)
			there(true)
			back(false)
			behind(c.back, *c.evictCase.back.out, c.backBy)
			both(true)
			d.nextTick(t)
			both(true)
			d.change(t, d.w.offloading)
			both(false)
			second := d.ticksPerSecond(t)
			for _, key := range []bpf.FlowKey{c.key, c.inverse} {
				// A packet has looked at the clock before it finds the entry to be an old one, and the clock goes on.
				if f, _ := d.flow(t, key); d.ticks(t)-f.Judged < (offloadSeconds+1)*second {
					t.Errorf("%d ticks after the rules let a packet through, with %d in a second", d.ticks(t)-f.Judged, second)
				}
			}
			behind(c.back, *c.evictCase.back.out, c.backBy)
			there(false)
			back(true)
			behind(c.there, *c.out.out, c.thereBy)
			both(true)
			for _, key := range []bpf.FlowKey{c.key, c.inverse} {
				d.edit(t, key, func(f *bpf.Flow) { f.Judged -= offloadSeconds * second })
			}
			d.nextTick(t)
			both(false)
			if n := len(d.flowRows(t)); n != 2 {
				t.Errorf("%d entries", n)
			}
			// One half without the other is of no use.
			behind(c.there, *c.out.out, c.thereBy)
			there(true)
			d.evict(t, c.inverse)
			d.nextTick(t)
			there(false)
			d.expectFlows(t)
		})
	}
}

// K-12: what begins or ends a connection, errors, pieces, and what the kernel has to answer are the kernel's, untouched.
func testOffloadLeft(t *testing.T, d *datapath) {
	go1, back := tcp("172.17.0.2:40000", "192.0.2.10:80", "A"), tcp("192.0.2.10:80", "198.51.100.1:40000", "A")
	c := evictCase{
		forward: sent{fromContainer("c1"), tcp(go1.src, go1.dst, "S")}, reply: sent{fromUplink("up0"), tcp(back.src, back.dst, "SA")},
		key: local("tcp", go1.src, go1.dst), inverse: wire("tcp", back.src, back.dst),
	}
	ready := func(t *testing.T) {
		t.Helper()
		d.offloaded(t, c)
		d.leaves(t, toUplink("up0"), go1.from("198.51.100.1:40000").withTTL(63), "br0")
		d.leaves(t, toContainer("c1"), back.to("172.17.0.2:40000").withTTL(63), "up0")
		d.expect(t, fromContainer("c1"), go1, redirected("br0 out", go1.from("198.51.100.1:40000").withTTL(63)))
		d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to("172.17.0.2:40000").withTTL(63).macs(d.w.gateway("c1"))))
	}
	for _, flags := range []string{"S", "SA", "F", "FA", "R", "RA"} {
		for _, h := range []hook{fromContainer("c1"), fromUplink("up0")} {
			t.Run("K-12 "+flags+" "+h.String(), func(t *testing.T) {
				ready(t)
				f, reason := tcp(go1.src, go1.dst, flags), "rules"
				if h.prog == "from_uplink" {
					f, reason = tcp(back.src, back.dst, flags), "not_ours"
				}
				d.expect(t, h, f, passed(reason))
				d.expectFlows(t)
				// It speaks for none behind it either.
				d.offloaded(t, c)
				d.leaves(t, toUplink("up0"), tcp("198.51.100.1:40000", go1.dst, flags).withTTL(63), "br0")
				d.expect(t, fromContainer("c1"), go1, passed("rules"))
			})
		}
	}
	first := udp("172.17.0.2:5000", "192.0.2.10:53").data(make([]byte, 64)).pieces(40)
	for _, l := range []struct {
		name   string
		hook   hook
		frame  frame
		reason string
	}{
		{"an error", fromUplink("up0"), icmpError("192.0.2.1", "198.51.100.1", 3, 1, 0, go1.from("198.51.100.1:40000"), 28), "not_ours"},
		{"TTL", fromContainer("c1"), go1.withTTL(1), "ttl"},
		{"too big", fromContainer("c1"), go1.data(make([]byte, 1600)), "mtu"},
		{"TTL, translated", fromUplink("up0"), back.withTTL(1), "ttl"},
	} {
		t.Run("K-12 "+l.name, func(t *testing.T) {
			ready(t)
			d.expect(t, l.hook, l.frame, passed(l.reason))
			if n := len(d.flowRows(t)); n != 2 {
				t.Errorf("%d entries", n)
			}
		})
	}
	t.Run("K-12 pieces", func(t *testing.T) {
		c := offloadCases(d)[0]
		d.offloaded(t, c.evictCase)
		d.leaves(t, c.there, *c.out.out, c.thereBy)
		d.expect(t, c.forward.hook, c.forward.frame, c.out)
		d.expect(t, c.forward.hook, first[0], passed("fragment"))
		d.expect(t, c.forward.hook, first[1], passed("rules"))
	})
}

// K-11: on a bridge that is offloaded no flow begins, whoever begins it, and what was begun before is forgotten; when it is native again, an
// offloaded flow is not one of its own.
func testOffloadBegins(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	for _, b := range []struct {
		name  string
		hook  hook
		frame frame
	}{
		{"out", fromContainer("c1"), syn},
		{"out, UDP", fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53")},
		{"to a neighbour", fromContainer("c1"), syn.to("172.17.0.3:80")},
		{"to the host", fromContainer("c1"), syn.to("172.17.0.1:22")},
		{"to a published port", fromContainer("c2"), udp("172.17.0.3:5000", "198.51.100.1:8080")},
		{"to a published port from a native bridge", fromContainer("d1"), udp("172.18.0.2:5000", "198.51.100.1:8080")},
		{"in", fromUplink("up0"), udp("192.0.2.10:5000", "198.51.100.1:8080")},
		{"in, to its own address", fromUplink("up0"), udp("192.0.2.10:5000", "172.17.0.2:53")},
		{"from the host", toBridge("br0"), udp("172.17.0.1:5000", "172.17.0.2:53")},
		{"forwarded", toBridge("br0"), udp("192.0.2.10:5000", "172.17.0.2:53")},
		{"a stranger's", fromBridge("br0"), udp("172.17.0.9:5000", "192.0.2.10:53")},
	} {
		t.Run("K-11 "+b.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, d.w.offloading)
			d.expect(t, b.hook, b.frame, passed("rules"))
			d.expectFlows(t)
		})
	}
	for _, c := range evictCases(d)[:5] {
		t.Run("K-11 begun before, "+c.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, publishWeb)
			d.expect(t, c.forward.hook, c.forward.frame, c.out)
			d.change(t, d.w.offloading)
			d.expect(t, c.forward.hook, c.forward.frame, passed("rules"))
			d.expectFlows(t)
		})
	}
	for _, c := range offloadCases(d) {
		t.Run("K-11 native again, "+c.name, func(t *testing.T) {
			d.offloaded(t, c.evictCase)
			d.change(t, publishWeb)
			d.expect(t, c.forward.hook, c.forward.frame, c.out)
			for _, key := range []bpf.FlowKey{c.key, c.inverse} {
				if f, ok := d.flow(t, key); !ok || f.Flags&bpf.DatapathFlowFlagFLOW_OFFLOAD != 0 {
					t.Errorf("%+v: %v, flags %#x", key, ok, f.Flags)
				}
			}
		})
	}
}

// K-11: the user's own rules hold where the host's decide too: whoever they refuse is not left to those.
func testOffloadRules(t *testing.T, d *datapath) {
	const egress, ingress = "policy_egress", "policy_ingress"
	published := func(s *state.State) {
		d.w.ruled(s)
		publish(s, "tcp", "0.0.0.0:8090", "172.17.0.3:80")
		publish(s, "tcp", "0.0.0.0:8091", "172.17.0.3:81")
	}
	c1, c2, up := fromContainer("c1"), fromContainer("c2"), fromUplink("up0")
	ask, answer := udp("192.0.2.10:5000", "172.17.0.3:53"), udp("172.17.0.3:53", "192.0.2.10:5000")
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	in := tcp("192.0.2.10:5000", "198.51.100.1:8090", "S")
	for _, c := range []struct {
		name   string
		before []sent
		hook   hook
		in     frame
		want   outcome
	}{
		{name: "out", hook: c1, in: syn, want: passed("rules")},
		{name: "out, where it may not", hook: c1, in: syn.to("198.18.0.1:80"), want: dropped(egress)},
		{name: "out, UDP, where it may not", hook: c1, in: udp("172.17.0.2:5000", "198.18.0.1:53"), want: dropped(egress)},
		{name: "to a neighbour", hook: c1, in: syn.to("172.17.0.3:80"), want: passed("rules")},
		{name: "to a neighbour who may not", hook: c1, in: syn.to("172.17.0.3:83"), want: dropped(ingress)},
		{name: "to a neighbour's published port", hook: c1, in: syn.to("198.51.100.1:8090"), want: passed("rules")},
		{name: "to a neighbour's published port, who may not", hook: c1, in: syn.to("198.51.100.1:8091"), want: dropped(ingress)},
		{name: "in", hook: up, in: in, want: passed("rules")},
		{name: "in, where he may not", hook: up, in: in.to("198.51.100.1:8091"), want: dropped(ingress)},
		{name: "an answer of one who may send nothing", hook: c2, in: tcp("172.17.0.3:80", "192.0.2.10:5000", "SA"), want: passed("rules")},
		{name: "forwarded", hook: toBridge("br0"), in: ask, want: passed("rules")},
		{name: "forwarded, where he may not", hook: toBridge("br0"), in: ask.to("172.17.0.3:54"), want: dropped(ingress)},
		{name: "an answer to what was forwarded", before: []sent{{toBridge("br0"), ask}}, hook: c2, in: answer, want: passed("rules")},
		{name: "no answer", hook: c2, in: answer, want: dropped(egress)},
	} {
		t.Run("K-11 "+c.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, with(d.w.offloading, published))
			for _, b := range c.before {
				d.send(t, b.hook, b.frame)
			}
			d.expect(t, c.hook, c.in, c.want)
		})
	}
}
