package packet

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testNobody: a flow whose next hop does not answer is left to the stack, which tells the container, once a second has passed without an answer
// of any kind (I-4). 192.0.2.130 is behind up1's gateway, which nobody has.
func testNobody(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.130:80", "S")
	out := redirected("br0 out", syn.from("203.0.113.1:40000").withTTL(63))
	key := local("tcp", "172.17.0.2:40000", "192.0.2.130:80")
	// later makes the flow's entry one that is due for a look at its route.
	later := func(t *testing.T) {
		t.Helper()
		d.nextTick(t)
		for _, table := range []string{"flows4", "flows4_new"} {
			var f bpf.Flow
			if d.coll.Maps[table].Lookup(key, &f) != nil {
				continue
			}
			f.Routed -= 60_000 // more than any clock's ticks in a second
			if err := d.coll.Maps[table].Put(key, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(t *testing.T){
		"native":              func(t *testing.T) { d.reset(t) },
		"over Docker's rules": func(t *testing.T) { d.reset(t); d.change(t, d.w.overRules) },
	} {
		t.Run("I-4 "+name, func(t *testing.T) {
			change(t)
			d.expect(t, fromContainer("c1"), syn, out)
			d.expect(t, fromContainer("c1"), syn, out) // within the second
			later(t)
			d.expect(t, fromContainer("c1"), syn, passed("route"))
			if flows := d.flows(t); len(flows) != 0 {
				t.Errorf("flows are left: %q", flows)
			}
			d.expect(t, fromContainer("c1"), syn, out) // another try
		})
	}
	ping := echo("172.17.0.2", "192.0.2.130", 7)
	d.runCases(t, []packetCase{
		{name: "I-4 a first ping: the stack asks for the next hop", hook: fromContainer("c1"), in: ping, want: passed("route")},
		{name: "I-4 a first ping, over Docker's rules", change: d.w.overRules, hook: fromContainer("c1"), in: ping, want: passed("route")},
		{
			name: "I-4 a first ping, where somebody's rules might drop it in the stack", change: func(s *state.State) {
				b := s.Bridges[d.w.devices["br0"].index]
				b.Flags |= bpf.DatapathBridgeFlagBRIDGE_FILTERED
				s.Bridges[d.w.devices["br0"].index] = b
			},
			hook: fromContainer("c1"), in: ping, want: redirected("br0 out", echo("203.0.113.1", "192.0.2.130", 7).withTTL(63)), flows: []string{
				"new local icmp 172.17.0.2:7>192.0.2.130:0 = 203.0.113.1:7>192.0.2.130:0 neigh up1",
				"new wire icmp 192.0.2.130:0>203.0.113.1:7 = 192.0.2.130:0>172.17.0.2:7 peer c1",
			},
		},
	})
	t.Run("I-4 an answered flow goes on", func(t *testing.T) {
		d.reset(t)
		ack := tcp("172.17.0.2:40000", "192.0.2.130:80", "A")
		d.expect(t, fromContainer("c1"), syn, out)
		answer := tcp("192.0.2.130:80", "203.0.113.1:40000", "SA")
		d.expect(t, fromUplink("up1"), answer, redirected("br0 out", answer.to("172.17.0.2:40000").withTTL(63).macs(d.w.gateway("c1"))))
		d.send(t, fromContainer("c1"), ack)
		later(t)
		d.expect(t, fromContainer("c1"), ack, redirected("br0 out", ack.from("203.0.113.1:40000").withTTL(63)))
	})
	t.Run("I-4 somebody is there", func(t *testing.T) {
		d.reset(t)
		far := &netlink.Neigh{
			LinkIndex: int(d.w.devices["up1"].index), State: netlink.NUD_PERMANENT, IP: net.ParseIP("203.0.113.254"), HardwareAddr: mac("02:00:00:00:00:fd"),
		}
		if err := netlink.NeighSet(far); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.NeighDel(far) })
		d.expect(t, fromContainer("c1"), syn, out)
		later(t)
		d.expect(t, fromContainer("c1"), syn, out)
	})
}
