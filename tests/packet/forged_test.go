package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testForged: J-5: what a container sends to the tunnel port of a host would leave with this host's address, and be believed there.
func testForged(t *testing.T, d *datapath) {
	overRules := func(s *state.State) { d.w.network(s); d.w.overRules(s) }
	var cases []packetCase
	for _, c := range []struct {
		name string
		hook hook
		from string
		to   string
	}{
		{"to another host", fromContainer("c1"), "172.17.0.2", "198.51.100.7:8472"},
		{"to a host on the segment", fromContainer("c1"), "172.17.0.2", "198.51.100.8:8472"},
		{"to its own host", fromContainer("c1"), "172.17.0.2", "198.51.100.1:8472"},
		{"to its own host, by another address", fromContainer("c1"), "172.17.0.2", "203.0.113.1:8472"},
		{"to its gateway", fromContainer("c1"), "172.17.0.2", "172.17.0.1:8472"},
		{"from a bridge that the others do not know", fromContainer("d1"), "172.18.0.2", "198.51.100.7:8472"},
		{"from a stranger behind a veth", fromContainer("s1"), "172.17.0.9", "198.51.100.7:8472"},
		{"from an unknown address", fromContainer("c1"), "172.17.0.77", "198.51.100.7:8472"},
		{"from a stranger on the bridge", fromBridge("br0"), "172.17.0.9", "198.51.100.7:8472"},
	} {
		in := udp(c.from+":40000", c.to)
		cases = append(cases,
			packetCase{name: "J-5 " + c.name, change: d.w.network, hook: c.hook, in: in, want: dropped("forged_tunnel")},
			packetCase{name: "J-5 over Docker's rules " + c.name, change: overRules, hook: c.hook, in: in, want: dropped("forged_tunnel")})
	}
	out := func(f frame) outcome { return redirected("br0 out", f.withTTL(63).from("198.51.100.1:40000")) }
	other, tcpTo := udp("172.17.0.2:40000", "198.51.100.7:4789"), tcp("172.17.0.2:40000", "198.51.100.7:8472", "S")
	world := udp("172.17.0.2:40000", "192.0.2.9:8472")
	cases = append(cases,
		packetCase{name: "another port of a host is as any", change: d.w.network, hook: fromContainer("c1"), in: other, want: out(other),
			flows: []string{"new local udp 172.17.0.2:40000>198.51.100.7:4789 = 198.51.100.1:40000>198.51.100.7:4789 neigh up0",
				"new wire udp 198.51.100.7:4789>198.51.100.1:40000 = 198.51.100.7:4789>172.17.0.2:40000 peer c1"}},
		packetCase{name: "TCP has that port too", change: d.w.network, hook: fromContainer("c1"), in: tcpTo, want: out(tcpTo),
			flows: []string{"new local tcp 172.17.0.2:40000>198.51.100.7:8472 = 198.51.100.1:40000>198.51.100.7:8472 neigh up0",
				"new wire tcp 198.51.100.7:8472>198.51.100.1:40000 = 198.51.100.7:8472>172.17.0.2:40000 peer c1"}},
		packetCase{name: "who is no host may have any port", change: d.w.network, hook: fromContainer("c1"), in: world, want: out(world),
			flows: []string{"new local udp 172.17.0.2:40000>192.0.2.9:8472 = 198.51.100.1:40000>192.0.2.9:8472 neigh up0",
				"new wire udp 192.0.2.9:8472>198.51.100.1:40000 = 192.0.2.9:8472>172.17.0.2:40000 peer c1"}},
	)
	d.runCases(t, cases)

	// A flow from before its destination was known as a host is no way in either.
	t.Run("J-5 a flow that was there before", func(t *testing.T) {
		for _, to := range []string{"198.51.100.7:8472", "198.51.100.1:8472"} {
			d.reset(t)
			forged := udp("172.17.0.2:40000", to)
			d.send(t, fromContainer("c1"), forged)
			d.change(t, d.w.network)
			d.expect(t, fromContainer("c1"), forged, dropped("forged_tunnel"))
			d.expectFlows(t)
		}
	})
	t.Run("hosts without a tunnel have no such port", func(t *testing.T) {
		d.reset(t)
		d.change(t, func(s *state.State) {
			d.w.network(s)
			s.Overlay.Port, s.Overlay.Kind = 0, bpf.DatapathPeerKindPEER_NONE
		})
		f := udp("172.17.0.2:40000", "198.51.100.7:8472")
		d.expect(t, fromContainer("c1"), f, out(f))
	})
}
