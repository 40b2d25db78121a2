package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testGatewayModes: H-20: what of a container's own address may be dialled from outside, by Docker's gateway modes and trusted devices; and
// what may not any more after a change.
func testGatewayModes(t *testing.T, d *datapath) {
	const published, all, ping = bpf.DatapathDirectFlagDIRECT_PUBLISHED, bpf.DatapathDirectFlagDIRECT_ALL, bpf.DatapathDirectFlagDIRECT_ECHO
	mode := func(direct bpf.DirectFlag, trusted string) func(*state.State) {
		return func(s *state.State) {
			index := d.w.devices["br0"].index
			b := s.Bridges[index]
			b.Direct, b.Trusted[0] = direct, d.w.devices[trusted].index
			b.Flags &^= bpf.DatapathBridgeFlagBRIDGE_MASQUERADE
			s.Bridges[index] = b
			publish(s, "tcp", "0.0.0.0:81", "172.17.0.2:90") // a port of the host is none of the container's
			publish(s, "tcp", "172.17.0.2:80", "172.17.0.2:80")
		}
	}
	syn := func(port string) frame { return tcp("192.0.2.10:40000", "172.17.0.2:"+port, "S") }
	in := func(f frame) outcome { return redirected("br0 in", f.withTTL(63).macs(d.w.gateway("c1"))) }
	flows := func(port string) []string {
		return []string{
			"new wire tcp 192.0.2.10:40000>172.17.0.2:" + port + " peer c1",
			"new local tcp 172.17.0.2:" + port + ">192.0.2.10:40000 neigh up0",
		}
	}
	ask := echo("192.0.2.10", "172.17.0.2", 7)
	d.runCases(t, []packetCase{
		{name: "routed, a published port", change: mode(published|ping, ""), hook: fromUplink("up0"), in: syn("80"), want: in(syn("80")), flows: flows("80")},
		{name: "routed, another port", change: mode(published|ping, ""), hook: fromUplink("up0"), in: syn("81"), want: dropped("direct")},
		{name: "routed, a ping", change: mode(published|ping, ""), hook: fromUplink("up0"), in: ask, want: in(ask), flows: []string{
			"new wire icmp 192.0.2.10:7>172.17.0.2:0 peer c1", "new local icmp 172.17.0.2:0>192.0.2.10:7 neigh up0"}},
		{name: "unprotected, any port", change: mode(all|ping, ""), hook: fromUplink("up0"), in: syn("81"), want: in(syn("81")), flows: flows("81")},
		{name: "nat", change: mode(0, ""), hook: fromUplink("up0"), in: syn("80"), want: dropped("direct")},
		{name: "a trusted device", change: mode(0, "up0"), hook: fromUplink("up0"), in: syn("80"), want: in(syn("80")), flows: flows("80")},
		{name: "a trusted device, another port", change: mode(0, "up0"), hook: fromUplink("up0"), in: syn("81"), want: dropped("direct")},
		{name: "a trusted device, a ping", change: mode(0, "up0"), hook: fromUplink("up0"), in: ask, want: dropped("direct")},
		{name: "another device", change: mode(0, "up1"), hook: fromUplink("up0"), in: syn("80"), want: dropped("direct")},
		{name: "internal", change: func(s *state.State) {
			mode(all, "")(s)
			d.w.setBridge(s, "br0", bpf.DatapathBridgeFlagBRIDGE_INTERNAL, 0)
		},
			hook: fromUplink("up0"), in: syn("80"), want: dropped("direct")},
		{name: "under rules", hook: fromUplink("up0"), in: syn("81"), want: dropped("policy_ingress"), change: func(s *state.State) {
			mode(all, "")(s)
			r := newRules(s)
			r.selects("172.17.0.2", 1, 0, 1)
			r.profile(1, ports(6, 80, 16))
		}},
	})
	t.Run("no longer", func(t *testing.T) {
		d.reset(t)
		d.change(t, mode(published, ""))
		d.send(t, fromUplink("up0"), syn("80"))
		d.send(t, fromContainer("c1"), tcp("172.17.0.2:80", "192.0.2.10:40000", "SA"))
		d.change(t, mode(0, ""))
		ack := syn("80")
		ack.flags = "A"
		d.expect(t, fromUplink("up0"), ack, dropped("direct"))
		d.expectFlows(t)
	})
}
