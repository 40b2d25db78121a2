package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testBypass: G-7, no packet from the middle of a connection, from either side, leaves an entry by which the SYN that comes after it passes what
// forbids it.
func testBypass(t *testing.T, d *datapath) {
	icc := func(s *state.State) { d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_ICC) }
	local := tcp("172.17.0.2:40000", "172.17.0.3:80", "S")
	apart := tcp("172.17.0.2:40000", "172.18.0.2:80", "S")
	wire := tcp("192.0.2.10:40000", "198.51.100.1:80", "S")
	direct := tcp("192.0.2.10:40000", "172.17.0.2:80", "S")
	for _, c := range []struct {
		name   string
		change func(*state.State)
		hook   hook
		syn    frame
		back   hook // by which the other side sends
		from   string
		want   outcome
	}{
		{"icc is off", icc, fromContainer("c1"), local, fromContainer("c2"), "172.17.0.3:80", dropped("icc")},
		{"another bridge", nil, fromContainer("c1"), apart, fromContainer("s1"), "172.18.0.2:80", dropped("isolated")},
		{"a port that is not published", nil, fromUplink("up0"), wire, fromContainer("c1"), "", passed("not_ours")},
		{"a container's own address from outside", nil, fromUplink("up0"), direct, fromContainer("c1"), "", dropped("direct")},
	} {
		for _, flags := range []string{"A", "SA", "FA", "R", "RA", "PA"} {
			t.Run("G-7 "+c.name+", after "+flags, func(t *testing.T) {
				d.reset(t)
				if c.change != nil {
					d.change(t, c.change)
				}
				stray := c.syn
				stray.flags = flags
				d.send(t, c.hook, stray)
				if c.from != "" {
					d.send(t, c.back, tcp(c.from, "172.17.0.2:40000", flags))
				}
				d.expect(t, c.hook, c.syn, c.want)
				d.expectFlows(t)
			})
		}
	}
}
