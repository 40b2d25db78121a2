package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// publishedWeb is the flow of a client's connection to 8080, published to c1's port 80.
func publishedWeb() []string {
	return []string{
		"new local tcp 172.17.0.2:80>192.0.2.10:50000 = 198.51.100.1:8080>192.0.2.10:50000 neigh up0",
		"new wire tcp 192.0.2.10:50000>198.51.100.1:8080 = 192.0.2.10:50000>172.17.0.2:80 peer c1",
	}
}

// testPublished: from outside to a published port.
func testPublished(t *testing.T, d *datapath) {
	syn := tcp("192.0.2.10:50000", "198.51.100.1:8080", "S")
	arrived := redirected("br0 in", syn.to("172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1")))
	two := func(s *state.State) {
		publish(s, "tcp", "198.51.100.1:8080", "172.17.0.2:80")
		publish(s, "tcp", "203.0.113.1:8080", "172.17.0.3:80")
		publish(s, "tcp", "0.0.0.0:8080", "172.18.0.2:80")
	}
	d.runCases(t, []packetCase{
		{name: "H-1 the client's address is kept", change: publishWeb, hook: fromUplink("up0"), in: syn, want: arrived, flows: publishedWeb()},
		{
			name: "E-13 the answer leaves from the published port", change: publishWeb,
			before: []sent{{fromUplink("up0"), syn}},
			hook:   fromContainer("c1"),
			in:     tcp("172.17.0.2:80", "192.0.2.10:50000", "SA"),
			want:   redirected("br0 in", tcp("198.51.100.1:8080", "192.0.2.10:50000", "SA").withTTL(63)),
			flows:  publishedWeb(),
		},
		{
			name: "D-1 udp checksum 0 stays 0", change: publishWeb,
			hook: fromUplink("up0"),
			in:   udp("192.0.2.10:50000", "198.51.100.1:8080").noChecksum(),
			want: redirected("br0 in", udp("192.0.2.10:50000", "172.17.0.2:53").noChecksum().withTTL(63).macs(d.w.gateway("c1"))),
			flows: []string{
				"new local udp 172.17.0.2:53>192.0.2.10:50000 = 198.51.100.1:8080>192.0.2.10:50000 neigh up0",
				"new wire udp 192.0.2.10:50000>198.51.100.1:8080 = 192.0.2.10:50000>172.17.0.2:53 peer c1",
			},
		},
		{
			name: "H-9 udp on the number of a tcp port",
			change: func(s *state.State) {
				publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80")
				publish(s, "udp", "0.0.0.0:8080", "172.17.0.3:8080")
			},
			hook: fromUplink("up0"), in: udp("192.0.2.10:50000", "198.51.100.1:8080"),
			want: redirected("br0 in", udp("192.0.2.10:50000", "172.17.0.3:8080").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local udp 172.17.0.3:8080>192.0.2.10:50000 = 198.51.100.1:8080>192.0.2.10:50000 neigh up0",
				"new wire udp 192.0.2.10:50000>198.51.100.1:8080 = 192.0.2.10:50000>172.17.0.3:8080 peer c2",
			},
		},
		{
			name:   "H-9 tcp alone is published",
			change: func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80") },
			hook:   fromUplink("up0"), in: udp("192.0.2.10:50000", "198.51.100.1:8080"), want: passed("not_ours"),
		},
		{name: "H-6 its own address wins over all", change: two, hook: fromUplink("up0"), in: syn, want: arrived, flows: publishedWeb()},
		{
			name: "H-6 the other address", change: two, hook: fromUplink("up1"),
			in:   tcp("203.0.113.9:50000", "203.0.113.1:8080", "S"),
			want: redirected("br0 in", tcp("203.0.113.9:50000", "172.17.0.3:80", "S").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local tcp 172.17.0.3:80>203.0.113.9:50000 = 203.0.113.1:8080>203.0.113.9:50000 neigh up1",
				"new wire tcp 203.0.113.9:50000>203.0.113.1:8080 = 203.0.113.9:50000>172.17.0.3:80 peer c2",
			},
		},
		{
			name: "H-6 any other address", change: two, hook: fromUplink("up0"),
			in:   tcp("192.0.2.10:50000", "10.8.0.1:8080", "S"),
			want: redirected("br1 in", tcp("192.0.2.10:50000", "172.18.0.2:80", "S").withTTL(63).macs(d.w.gateway("d1"))),
			flows: []string{
				"new local tcp 172.18.0.2:80>192.0.2.10:50000 = 10.8.0.1:8080>192.0.2.10:50000 neigh up0",
				"new wire tcp 192.0.2.10:50000>10.8.0.1:8080 = 192.0.2.10:50000>172.18.0.2:80 peer d1",
			},
		},
		{
			name: "H-8 by the other uplink: the answer leaves where it came in", change: publishWeb, hook: fromUplink("up1"),
			in:   syn.to("203.0.113.1:8080"),
			want: redirected("br0 in", syn.to("172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1"))),
			flows: []string{
				"new local tcp 172.17.0.2:80>192.0.2.10:50000 = 203.0.113.1:8080>192.0.2.10:50000 neigh up1",
				"new wire tcp 192.0.2.10:50000>203.0.113.1:8080 = 192.0.2.10:50000>172.17.0.2:80 peer c1",
			},
		},
		{
			name: "H-7 an address that the host got later",
			change: func(s *state.State) {
				publishWeb(s)
				s.HostAddrs[addrKey("198.51.100.77")] = bpf.HostAddr{Ifindex: d.w.devices["up0"].index}
			},
			hook: fromUplink("up0"), in: syn.to("198.51.100.77:8080"), want: arrived,
			flows: []string{
				"new local tcp 172.17.0.2:80>192.0.2.10:50000 = 198.51.100.77:8080>192.0.2.10:50000 neigh up0",
				"new wire tcp 192.0.2.10:50000>198.51.100.77:8080 = 192.0.2.10:50000>172.17.0.2:80 peer c1",
			},
		},
		{
			name: "H-7 an address that the host has no more", hook: fromUplink("up0"), in: syn, want: passed("not_ours"),
			change: func(s *state.State) {
				publishWeb(s)
				delete(s.HostAddrs, addrKey("198.51.100.1"))
			},
		},
		{name: "a port that is not published", hook: fromUplink("up0"), in: syn, want: passed("not_ours")},
		{
			name: "H-18 a published port without its container", hook: fromUplink("up0"), in: syn, want: passed("not_ours"),
			change: func(s *state.State) {
				publishWeb(s)
				delete(s.Endpoints, addrKey("172.17.0.2"))
			},
		},
		{
			name: "G-12 a published port whose address is another container's now", hook: fromUplink("up0"), in: syn, want: passed("not_ours"),
			change: func(s *state.State) {
				publishWeb(s)
				ep := s.Endpoints[addrKey("172.17.0.2")]
				ep.Id++
				s.Endpoints[addrKey("172.17.0.2")] = ep
			},
		},
		{
			name: "G-6 a port of an internal network", hook: fromUplink("up0"), in: syn, want: dropped("internal"),
			change: func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.19.0.2:80") },
		},
		{
			name: "H-5 published on loopback alone", hook: fromUplink("up0"), in: syn, want: passed("not_ours"),
			change: func(s *state.State) { publish(s, "tcp", "127.0.0.1:8080", "172.17.0.2:80") },
		},
		{
			name: "H-5 published on loopback, dialled from the wire", hook: fromUplink("up0"), in: syn.to("127.0.0.1:8080"), want: dropped("loopback"),
			change: func(s *state.State) { publish(s, "tcp", "127.0.0.1:8080", "172.17.0.2:80") },
		},
		{
			name: "H-5 a source of loopback", change: publishWeb, hook: fromUplink("up0"), in: syn.from("127.0.0.1:50000"), want: dropped("loopback"),
		},
		{
			name: "H-5 the host's own address as a source from the wire", change: publishWeb, hook: fromUplink("up0"),
			in: syn.from("203.0.113.1:50000"), want: dropped("martian_source"),
		},
		{
			name: "G-5 a container's address as a source from the wire", change: publishWeb, hook: fromUplink("up0"),
			in: syn.from("172.17.0.3:50000"), want: dropped("martian_source"),
		},
		{name: "H-20 a container's own address, native", hook: fromUplink("up0"), in: syn.to("172.17.0.2:80"), want: dropped("direct")},
		{
			name: "H-20 a container's own address, over docker's rules", change: d.w.overRules,
			hook: fromUplink("up0"), in: syn.to("172.17.0.2:80"), want: passed("rules"),
		},
		{
			name: "F-11 over docker's rules the middle of a connection is the kernel's", hook: fromUplink("up0"),
			in: tcp("192.0.2.10:50000", "198.51.100.1:8080", "A"), want: passed("midstream"),
			change: func(s *state.State) { publishWeb(s); d.w.overRules(s) },
		},
		{
			name: "over docker's rules a new connection is ours", hook: fromUplink("up0"), in: syn, want: arrived, flows: publishedWeb(),
			change: func(s *state.State) { publishWeb(s); d.w.overRules(s) },
		},
		{name: "transit", hook: fromUplink("up0"), in: syn.to("10.9.0.5:80"), want: passed("not_ours")},
		{name: "G-3 multicast from the wire", hook: fromUplink("up0"), in: udp("192.0.2.10:5353", "224.0.0.251:5353"), want: passed("not_ours")},
	})
}

// testHairpin: from containers by the host's address to published ports.
func testHairpin(t *testing.T, d *datapath) {
	dial := tcp("172.17.0.2:50000", "198.51.100.1:8080", "S")
	lead := func(to string) func(*state.State) {
		return func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", to) }
	}
	self := []string{
		"new local tcp 172.17.0.2:50000>198.51.100.1:8080 = 172.17.0.1:50000>172.17.0.2:80 peer c1",
		"new local tcp 172.17.0.2:80>172.17.0.1:50000 = 198.51.100.1:8080>172.17.0.2:50000 peer c1",
	}
	neighbour := []string{
		"new local tcp 172.17.0.2:50000>198.51.100.1:8080 = 172.17.0.2:50000>172.17.0.3:80 peer c2",
		"new local tcp 172.17.0.3:80>172.17.0.2:50000 = 198.51.100.1:8080>172.17.0.2:50000 peer c1",
	}
	other := []string{
		"new local tcp 172.17.0.2:50000>198.51.100.1:8080 = 172.17.0.2:50000>172.18.0.2:80 peer d1",
		"new local tcp 172.18.0.2:80>172.17.0.2:50000 = 198.51.100.1:8080>172.17.0.2:50000 peer c1",
	}
	opening := []sent{{fromContainer("c1"), dial}}
	d.runCases(t, []packetCase{
		{
			name: "H-4 itself", change: lead("172.17.0.2:80"), hook: fromContainer("c1"), in: dial, flows: self,
			want: redirected("br0 local", tcp("172.17.0.1:50000", "172.17.0.2:80", "S").withTTL(63).macs(d.w.gateway("c1"))),
		},
		{
			name: "H-4 itself, the answer", change: lead("172.17.0.2:80"), before: opening,
			hook: fromContainer("c1"), in: tcp("172.17.0.2:80", "172.17.0.1:50000", "SA"), flows: self,
			want: redirected("br0 local", tcp("198.51.100.1:8080", "172.17.0.2:50000", "SA").withTTL(63).macs(d.w.gateway("c1"))),
		},
		{
			name: "H-4 a neighbour", change: lead("172.17.0.3:80"), hook: fromContainer("c1"), in: dial, flows: neighbour,
			want: redirected("br0 local", dial.to("172.17.0.3:80").withTTL(63).macs(d.w.gateway("c2"))),
		},
		{
			name: "H-4 a neighbour's answer", change: lead("172.17.0.3:80"), before: opening,
			hook: fromContainer("c2"), in: tcp("172.17.0.3:80", "172.17.0.2:50000", "SA"), flows: neighbour,
			want: redirected("br0 local", tcp("198.51.100.1:8080", "172.17.0.2:50000", "SA").withTTL(63).macs(d.w.gateway("c1"))),
		},
		{
			name: "H-4 on another bridge", change: lead("172.18.0.2:80"), hook: fromContainer("c1"), in: dial, flows: other,
			want: redirected("br0 local", dial.to("172.18.0.2:80").withTTL(63).macs(d.w.gateway("d1"))),
		},
		{
			name: "H-4 on another bridge, the answer", change: lead("172.18.0.2:80"), before: opening,
			hook: fromContainer("d1"), in: tcp("172.18.0.2:80", "172.17.0.2:50000", "SA"), flows: other,
			want: redirected("br0 local", tcp("198.51.100.1:8080", "172.17.0.2:50000", "SA").withTTL(63).macs(d.w.gateway("c1"))),
		},
		{
			name: "H-4 by the gateway's address, udp", hook: fromContainer("c1"),
			change: func(s *state.State) { publish(s, "udp", "0.0.0.0:5300", "172.17.0.3:53") },
			in:     udp("172.17.0.2:50000", "172.17.0.1:5300"),
			want:   redirected("br0 local", udp("172.17.0.2:50000", "172.17.0.3:53").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local udp 172.17.0.2:50000>172.17.0.1:5300 = 172.17.0.2:50000>172.17.0.3:53 peer c2",
				"new local udp 172.17.0.3:53>172.17.0.2:50000 = 172.17.0.1:5300>172.17.0.2:50000 peer c1",
			},
		},
		{
			name: "G-12 a published port whose address is another container's now", hook: fromContainer("c1"), in: dial, want: passed("host"),
			change: func(s *state.State) {
				lead("172.17.0.3:80")(s)
				ep := s.Endpoints[addrKey("172.17.0.3")]
				ep.Id++
				s.Endpoints[addrKey("172.17.0.3")] = ep
			},
		},
		{
			name: "G-6 into an internal network", change: lead("172.19.0.2:80"), hook: fromContainer("c1"), in: dial, want: dropped("internal"),
		},
		{
			name: "G-6 out of an internal network", change: lead("172.17.0.2:80"), hook: fromContainer("i1"),
			in: dial.from("172.19.0.2:50000"), want: dropped("internal"),
		},
		{
			name: "G-6 over docker's rules they decide", hook: fromContainer("c1"), in: dial, want: passed("rules"),
			change: func(s *state.State) { lead("172.19.0.2:80")(s); d.w.overRules(s) },
		},
		{
			name: "over docker's rules the middle of a connection is the kernel's", hook: fromContainer("c1"),
			in: tcp("172.17.0.2:50000", "198.51.100.1:8080", "A"), want: passed("midstream"),
			change: func(s *state.State) { lead("172.17.0.3:80")(s); d.w.overRules(s) },
		},
		{
			name: "H-4 a stranger on the bridge dials a published port", change: lead("172.17.0.3:80"),
			hook: fromBridge("br0"), in: dial.from("172.17.0.9:50000"),
			want: redirected("br0 local", tcp("172.17.0.9:50000", "172.17.0.3:80", "S").withTTL(63).macs(d.w.gateway("c2"))),
			flows: []string{
				"new local tcp 172.17.0.9:50000>198.51.100.1:8080 = 172.17.0.9:50000>172.17.0.3:80 peer c2",
				"new local tcp 172.17.0.3:80>172.17.0.9:50000 = 198.51.100.1:8080>172.17.0.9:50000 neigh br0",
			},
		},
	})
}

// H-13: the answer to a connection by the host's address is told from that to one by the container's own, although both come from the same
// port to the same port.
func testBothWays(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.17.0.3:80") })
	direct := tcp("172.17.0.2:50000", "172.17.0.3:80", "S")
	d.expect(t, fromContainer("c1"), direct, redirected("br0 local", direct))
	r := d.send(t, fromContainer("c1"), tcp("172.17.0.2:50000", "198.51.100.1:8080", "S"))
	src, dst := r.addresses()
	if src == "172.17.0.2:50000" || dst != "172.17.0.3:80" {
		t.Fatalf("second connection becomes %s > %s, which is the first one's", src, dst)
	}
	answer := tcp("172.17.0.3:80", src, "SA")
	d.expect(t, fromContainer("c2"), answer,
		redirected("br0 local", answer.from("198.51.100.1:8080").to("172.17.0.2:50000").withTTL(63).macs(d.w.gateway("c1"))))
	answer = tcp("172.17.0.3:80", "172.17.0.2:50000", "SA")
	d.expect(t, fromContainer("c2"), answer, redirected("br0 local", answer))
}

// H-12: 65,535 ports, all of TCP.
func testEveryPort(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, func(s *state.State) {
		for port := 1; port <= 65535; port++ {
			s.Publish[bpf.PublishKey{Port: bpf.Port(uint16(port)), Proto: protocols()["tcp"]}] = bpf.Publish{
				Addr: addr("172.17.0.2"), Port: bpf.Port(uint16(port)), Id: s.Endpoints[addrKey("172.17.0.2")].Id,
			}
		}
	})
	for _, port := range []string{"1", "32768", "65535"} {
		in := tcp("192.0.2.10:50000", "198.51.100.1:"+port, "S")
		d.expect(t, fromUplink("up0"), in, redirected("br0 in", in.to("172.17.0.2:"+port).withTTL(63).macs(d.w.gateway("c1"))))
	}
}
