package packet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

const closedBridge = bpf.DatapathBridgeFlagBRIDGE_CLOSED

// testClosed: G-12: on a bridge that is closed to those whom the agent does not know yet, they send nothing and get nothing, in both worlds.
func testClosed(t *testing.T, d *datapath) {
	refused := dropped("unknown_container")
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	local := tcp("172.17.0.2:40000", "172.17.0.3:80", "S")
	unknown := tcp("172.17.0.9:40000", "192.0.2.10:80", "S")
	for name, flags := range map[string]bpf.BridgeFlag{"native": closedBridge, "over Docker's rules": closedBridge | dockerRules} {
		closed := func(s *state.State) { d.w.setBridge(s, "br0", flags, 0) }
		t.Run(name, func(t *testing.T) {
			d.runCases(t, []packetCase{
				{name: "out by the bridge", change: closed, hook: fromBridge("br0"), in: unknown, want: refused},
				{name: "to the host", change: closed, hook: fromBridge("br0"), in: unknown.to("172.17.0.1:22"), want: refused},
				{name: "with the address of a container that is known", change: closed, hook: fromBridge("br0"), in: syn, want: refused},
				{name: "arp", change: closed, hook: fromBridge("br0"), in: unknown.put16(atEtherType, 0x0806), want: passed("not_ipv4")},
				{name: "from the host", change: closed, hook: toBridge("br0"), in: tcp("172.17.0.1:40000", "172.17.0.9:80", "S"), want: refused},
				{name: "from outside, by the stack", change: closed, hook: toBridge("br0"), in: tcp("192.0.2.10:40000", "172.17.0.9:80", "S"), want: refused},
				{name: "from a container that is known", change: closed, hook: fromContainer("c1"), in: local.to("172.17.0.9:80"), want: refused},
				{name: "from one that is known, by way of the gateway", change: closed, hook: fromContainer("c1"),
					in: local.to("172.17.0.9:80").macs(d.w.devices["c1"].containerMAC(), d.w.devices["br0"].mac), want: refused},
				{name: "broadcast on the bridge", change: closed, hook: fromContainer("c1"), in: udp("172.17.0.2:1", "255.255.255.255:1"), want: passed("multicast")},
				{name: "known ones are served", change: closed, hook: fromContainer("c1"), in: local, want: redirected("br0 local", local),
					flows: []string{
						"new local tcp 172.17.0.2:40000>172.17.0.3:80 peer c2",
						"new local tcp 172.17.0.3:80>172.17.0.2:40000 peer c1",
					}},
			})
		})
	}
	t.Run("by the bridge alone", func(t *testing.T) { d.testClosedBridged(t) })
}

// testClosedBridged: what the bridge forwards to a container, with and without the mark that a known sender's program leaves.
func (d *datapath) testClosedBridged(t *testing.T) {
	const left, refused = 0xeb01, "drop unknown_container"
	fromGateway, gatewayTo := d.w.gateway("c2")
	for _, c := range []struct {
		name    string
		open    bool
		from    string // the device that it came in by
		frame   frame
		mark    uint32
		counter string
	}{
		{name: "from a veth without a program", from: "s1", frame: tcp("172.17.0.9:1", "172.17.0.3:80", "S").macs(d.w.devices["s1"].containerMAC(), gatewayTo), counter: refused},
		{name: "with another's address", from: "s1", frame: tcp("172.17.0.2:1", "172.17.0.3:80", "S").macs(d.w.devices["s1"].containerMAC(), gatewayTo), counter: refused},
		{name: "from one whose program has left it to the bridge", from: "c1", mark: left,
			frame: tcp("172.17.0.2:1", "172.17.0.3:80", "A").macs(d.w.devices["c1"].containerMAC(), gatewayTo)},
		{name: "from outside, by the stack", from: "up0", frame: tcp("192.0.2.10:1", "172.17.0.3:80", "A").macs(fromGateway, gatewayTo)},
		{name: "from the host", frame: tcp("172.17.0.1:1", "172.17.0.3:80", "A").macs(fromGateway, gatewayTo)},
		{name: "arp", from: "s1", frame: tcp("172.17.0.9:1", "172.17.0.3:80", "S").put16(atEtherType, 0x0806).macs(d.w.devices["s1"].containerMAC(), gatewayTo)},
		{name: "on a bridge that is not closed", open: true, from: "s1", frame: tcp("172.17.0.9:1", "172.17.0.3:80", "S").macs(d.w.devices["s1"].containerMAC(), gatewayTo)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			if !c.open {
				d.change(t, func(s *state.State) { d.w.setBridge(s, "br0", closedBridge, 0) })
			}
			before := d.counters(t)
			in := skb{IngressIfindex: d.w.devices[c.from].index}
			in.CB[cbMarkIn] = c.mark
			r := d.run(t, toContainer("c2"), c.frame.bytes(), in)
			want, verdict := map[string]uint64{}, int32(verdictNext)
			if c.counter != "" {
				want[c.counter], verdict = 1, verdictDrop
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
