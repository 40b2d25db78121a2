package packet

import "testing"

// testRecordRoute: a host that forwards a packet enters itself into its record of the route (RFC 791, section 3.1).
func testRecordRoute(t *testing.T, d *datapath) {
	option := func(before int, at byte, filled ...byte) []byte {
		o := make([]byte, before, 40)
		for i := range o {
			o[i] = 1 // no operation
		}
		o = append(o, 7, 11, at)
		o = append(o, filled...)
		o = append(o, make([]byte, before+11-len(o))...)
		for len(o)%4 != 0 {
			o = append(o, 0)
		}
		return o
	}
	wire, host := "192.0.2.10:53", "198.51.100.1:5000"
	out, in := udp("172.17.0.2:5000", wire), udp(wire, "198.51.100.1:8080")
	local := udp("172.17.0.2:5000", "172.17.0.3:53")
	for _, shift := range []int{0, 1, 2} { // the option may begin at an odd byte
		d.runCases(t, []packetCase{
			{
				name: "out", hook: fromContainer("c1"), in: out.ipOptions(option(shift, 4)),
				want: redirected("br0 out", out.from(host).withTTL(63).ipOptions(option(shift, 8, 198, 51, 100, 1))), flows: []string{
					"new local udp 172.17.0.2:5000>192.0.2.10:53 = 198.51.100.1:5000>192.0.2.10:53 neigh up0",
					"new wire udp 192.0.2.10:53>198.51.100.1:5000 = 192.0.2.10:53>172.17.0.2:5000 peer c1",
				},
			},
			{
				name: "in", change: publishWeb, hook: fromUplink("up0"), in: in.ipOptions(option(shift, 8, 9, 9, 9, 9)),
				want: redirected("br0 in", in.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1")).ipOptions(option(shift, 12, 9, 9, 9, 9, 172, 17, 0, 1))),
				flows: []string{
					"new wire udp 192.0.2.10:53>198.51.100.1:8080 = 192.0.2.10:53>172.17.0.2:53 peer c1",
					"new local udp 172.17.0.2:53>192.0.2.10:53 = 198.51.100.1:8080>192.0.2.10:53 neigh up0",
				},
			},
		})
	}
	full := option(0, 12, 9, 9, 9, 9, 8, 8, 8, 8)
	d.runCases(t, []packetCase{
		{
			name: "no room left", hook: fromContainer("c1"), in: out.ipOptions(full), want: redirected("br0 out", out.from(host).withTTL(63).ipOptions(full)),
			flows: []string{
				"new local udp 172.17.0.2:5000>192.0.2.10:53 = 198.51.100.1:5000>192.0.2.10:53 neigh up0",
				"new wire udp 192.0.2.10:53>198.51.100.1:5000 = 192.0.2.10:53>172.17.0.2:5000 peer c1",
			},
		},
		{
			name: "on one bridge nobody routes", hook: fromContainer("c1"), in: local.ipOptions(option(0, 4)), want: redirected("br0 local", local.ipOptions(option(0, 4))),
			flows: []string{
				"new local udp 172.17.0.2:5000>172.17.0.3:53 peer c2",
				"new local udp 172.17.0.3:53>172.17.0.2:5000 peer c1",
			},
		},
	})
}
