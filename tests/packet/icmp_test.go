package packet

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

const (
	unreachable  = 3
	timeExceeded = 11
	badParameter = 12

	fragNeeded = 4
	portClosed = 3
	everything = 2000
	wholeQuote = 548 // what a 576-byte error has room for (RFC 1812, section 4.3.2.3)
	shortQuote = 28  // RFC 792: the header and 8 bytes
	router     = "198.51.100.254"
)

// testErrorsIn: ICMP errors from outside about what containers sent, and about what they answered. A-4: some quote the whole packet, so that
// the checksum inside has to come out right too.
func testErrorsIn(t *testing.T, d *datapath) {
	big := make([]byte, 1000)
	for i := range big {
		big[i] = byte(3 * i)
	}
	type flow struct {
		name    string
		start   []sent
		inside  frame // as the container sent it
		outside frame // as the router saw it
		counter string
	}
	out := func(name string, inside, outside frame) flow {
		return flow{name, []sent{{fromContainer("c1"), inside}}, inside.withTTL(60), outside.withTTL(60), "br0 out"}
	}
	client := udp("192.0.2.10:5000", "198.51.100.1:8080")
	flows := []flow{
		out("A-1 udp", udp("172.17.0.2:5000", "192.0.2.10:53").data(big), udp("198.51.100.1:5000", "192.0.2.10:53").data(big)),
		out("A-3 udp without checksum", udp("172.17.0.2:5000", "192.0.2.10:53").data(big).noChecksum(), udp("198.51.100.1:5000", "192.0.2.10:53").data(big).noChecksum()),
		out("A-2 tcp", tcp("172.17.0.2:40000", "192.0.2.10:80", "A").data(big), tcp("198.51.100.1:40000", "192.0.2.10:80", "A").data(big)),
		out("A-5 ping", echo("172.17.0.2", "192.0.2.10", 7).data(big), echo("198.51.100.1", "192.0.2.10", 7).data(big)),
		out("A-6 sctp", sctp("172.17.0.2:40000", "192.0.2.10:80").data(big), sctp("198.51.100.1:40000", "192.0.2.10:80").data(big)),
		out("gre", portless("gre", "172.17.0.2", "192.0.2.10").data(big), portless("gre", "198.51.100.1", "192.0.2.10").data(big)),
		{
			"A-10 a published port's answer", []sent{{fromUplink("up0"), client}}, udp("172.17.0.2:53", "192.0.2.10:5000").data(big).withTTL(60),
			udp("198.51.100.1:8080", "192.0.2.10:5000").data(big).withTTL(60), "br0 in",
		},
	}
	for _, c := range flows {
		for _, n := range []int{shortQuote, 40, wholeQuote, everything} {
			for _, kind := range []struct{ kind, code uint8 }{{unreachable, fragNeeded}, {unreachable, portClosed}, {unreachable, 13}, {timeExceeded, 0}, {badParameter, 0}} {
				for _, from := range []string{router, "192.0.2.10"} {
					t.Run(fmt.Sprintf("A-8 %s, %d bytes quoted, type %d code %d from %s", c.name, n, kind.kind, kind.code, from), func(t *testing.T) {
						d.reset(t)
						d.change(t, publishWeb)
						for _, p := range c.start {
							d.send(t, p.hook, p.frame)
						}
						before := d.flowRows(t)
						in := icmpError(from, "198.51.100.1", kind.kind, kind.code, 1400, c.outside, n)
						want := icmpError(from, "172.17.0.2", kind.kind, kind.code, 1400, c.inside, n).withTTL(63).macs(d.w.gateway("c1"))
						d.expect(t, fromUplink("up0"), in, redirected(c.counter, want))
						// an error refreshes nothing and ends nothing.
						for i, r := range d.flowRows(t) {
							if r.flow.Packets != before[i].flow.Packets || r.flow.Tcp != before[i].flow.Tcp || r.new != before[i].new {
								t.Errorf("the error has changed %s", d.describeFlow(r))
							}
						}
					})
				}
			}
		}
	}
}

// as above where the container's port had to be changed.
func testErrorsPort(t *testing.T, d *datapath) {
	for _, proto := range []string{"udp", "tcp", "sctp"} {
		for _, n := range []int{shortQuote, 60} {
			t.Run(fmt.Sprintf("A-2 %s, %d bytes quoted", proto, n), func(t *testing.T) {
				d.reset(t)
				packet := func(src string) frame {
					f := udp(src, "192.0.2.10:80").data(make([]byte, 100)).withTTL(64)
					f.proto = proto
					return f
				}
				d.send(t, fromContainer("c1"), packet("172.17.0.2:40000"))
				r := d.send(t, fromContainer("c2"), packet("172.17.0.3:40000"))
				src, _ := r.addresses()
				in := icmpError(router, "198.51.100.1", unreachable, fragNeeded, 1400, packet(src), n)
				want := icmpError(router, "172.17.0.3", unreachable, fragNeeded, 1400, packet("172.17.0.3:40000"), n)
				if proto == "sctp" && n > shortQuote {
					return // the quoted CRC is not touched, and covers the ports
				}
				d.expect(t, fromUplink("up0"), in, redirected("br0 out", want.withTTL(63).macs(d.w.gateway("c2"))))
			})
		}
	}
}

// testErrorsOut: ICMP errors that containers, and routers in them, send.
func testErrorsOut(t *testing.T, d *datapath) {
	client := udp("192.0.2.10:5000", "198.51.100.1:8080")
	seen := client.to("172.17.0.2:53").withTTL(63)
	for _, n := range []int{shortQuote, 40} {
		t.Run(fmt.Sprintf("A-9 about a published port's packet, %d bytes quoted", n), func(t *testing.T) {
			d.reset(t)
			d.change(t, publishWeb)
			d.send(t, fromUplink("up0"), client)
			in := icmpError("172.17.0.2", "192.0.2.10", unreachable, portClosed, 0, seen, n)
			want := icmpError("198.51.100.1", "192.0.2.10", unreachable, portClosed, 0, client.withTTL(63), n)
			d.expect(t, fromContainer("c1"), in, redirected("br0 in", want.withTTL(63)))
		})
	}
	t.Run("A-9 about a masqueraded flow's answer", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"))
		in := icmpError("172.17.0.2", "192.0.2.10", unreachable, portClosed, 0, udp("192.0.2.10:53", "172.17.0.2:5000"), shortQuote)
		want := icmpError("198.51.100.1", "192.0.2.10", unreachable, portClosed, 0, udp("192.0.2.10:53", "198.51.100.1:5000"), shortQuote)
		d.expect(t, fromContainer("c1"), in, redirected("br0 out", want.withTTL(63)))
	})
	t.Run("A-11 about a neighbour's packet by the host's address", func(t *testing.T) {
		d.reset(t)
		d.change(t, func(s *state.State) { publish(s, "udp", "0.0.0.0:8080", "172.17.0.3:53") })
		d.send(t, fromContainer("c1"), udp("172.17.0.2:5000", "198.51.100.1:8080"))
		in := icmpError("172.17.0.3", "172.17.0.2", unreachable, portClosed, 0, udp("172.17.0.2:5000", "172.17.0.3:53"), shortQuote)
		want := icmpError("198.51.100.1", "172.17.0.2", unreachable, portClosed, 0, udp("172.17.0.2:5000", "198.51.100.1:8080"), shortQuote)
		d.expect(t, fromContainer("c2"), in, redirected("br0 local", want.withTTL(63).macs(d.w.gateway("c1"))))
	})
	t.Run("A-8 between containers of one bridge", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), udp("172.17.0.2:5000", "172.17.0.3:53"))
		in := icmpError("172.17.0.3", "172.17.0.2", unreachable, portClosed, 0, udp("172.17.0.2:5000", "172.17.0.3:53"), shortQuote)
		d.expect(t, fromContainer("c2"), in, redirected("br0 local", in))
	})
	t.Run("G-5 about another container's flow", func(t *testing.T) {
		d.reset(t)
		d.change(t, publishWeb)
		d.send(t, fromUplink("up0"), client)
		in := icmpError("172.17.0.2", "192.0.2.10", unreachable, portClosed, 0, seen, shortQuote)
		d.expect(t, fromContainer("c2"), in, dropped("spoofed"))
	})
	t.Run("A-11 about the host's own packet", func(t *testing.T) {
		d.reset(t)
		mine := udp("172.17.0.1:5000", "172.17.0.2:53")
		d.send(t, toBridge("br0"), mine)
		in := icmpError("172.17.0.2", "172.17.0.1", unreachable, portClosed, 0, mine, shortQuote)
		d.expect(t, fromContainer("c1"), in, stacked("br0 host", in))
	})
}

// testErrorsOther: errors that are about nothing of ours, or are not what they say.
func testErrorsOther(t *testing.T, d *datapath) {
	mine := udp("172.17.0.2:5000", "192.0.2.10:53")
	wired := mine.from("198.51.100.1:5000")
	start := []sent{{fromContainer("c1"), mine}}
	flows := []string{
		"new local udp 172.17.0.2:5000>192.0.2.10:53 = 198.51.100.1:5000>192.0.2.10:53 neigh up0",
		"new wire udp 192.0.2.10:53>198.51.100.1:5000 = 192.0.2.10:53>172.17.0.2:5000 peer c1",
	}
	quote := func(f frame, n int) frame {
		return icmpError(router, "198.51.100.1", unreachable, fragNeeded, 1400, f, n)
	}
	later := wired
	later.fragment = 8
	cases := []packetCase{
		{name: "A-14 about the host's own flow", in: quote(udp("198.51.100.1:6000", "192.0.2.10:53"), shortQuote), want: passed("not_ours")},
		{name: "A-15 about a peer that the flow does not have", in: quote(wired.to("192.0.2.11:53"), shortQuote), want: passed("not_ours")},
		{name: "A-15 about a port that the flow does not have", in: quote(wired.to("192.0.2.10:54"), shortQuote), want: passed("not_ours")},
		{name: "A-15 sent to another address than the packet came from", in: quote(wired, shortQuote).to("203.0.113.1"), want: passed("not_ours")},
		{name: "A-13 about a later piece", in: quote(later, shortQuote), want: passed("not_ours")},
		{name: "A-12 quoted header too short", in: quote(wired.put8(atIP, 0x44), shortQuote), want: dropped("icmp_error")},
		{name: "A-12 quoted header beyond the packet", in: quote(wired.put8(atIP, 0x4f), shortQuote), want: dropped("icmp_error")},
		{name: "A-12 quoted version 6", in: quote(wired.put8(atIP, 0x65), shortQuote), want: dropped("icmp_error")},
		{name: "quotation of 27 bytes", in: quote(wired, 27), want: dropped("icmp_error")},
		{name: "quotation of nothing", in: quote(wired, 0), want: dropped("icmp_error")},
		{name: "quotation beyond the datagram", in: quote(wired, shortQuote).put16(atTotalLen, 55).refresh(), want: dropped("icmp_error")},
		{name: "B-6 a redirect", in: icmpError(router, "198.51.100.1", 5, 1, 0, wired, shortQuote), want: passed("not_ours")},
		{name: "A-16 an error about an error", in: quote(icmpError("198.51.100.1", "192.0.2.10", 3, 3, 0, mine, 28), 48), want: passed("not_ours")},
		{
			name: "A-12 options in both headers", in: quote(wired.ipOptions(make([]byte, 8)), 36).ipOptions(make([]byte, 4)),
			want: redirected("br0 out", icmpError(router, "172.17.0.2", unreachable, fragNeeded, 1400, mine.ipOptions(make([]byte, 8)), 36).
				ipOptions(make([]byte, 4)).withTTL(63).macs(d.w.gateway("c1"))),
		},
	}
	for i := range cases {
		cases[i].hook, cases[i].before, cases[i].flows = fromUplink("up0"), start, flows
	}
	d.runCases(t, cases)

	t.Run("E-16 about a container that is gone", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), mine)
		d.change(t, func(s *state.State) {
			ep := s.Endpoints[addrKey("172.17.0.2")]
			ep.Id = 9999
			s.Endpoints[addrKey("172.17.0.2")] = ep
		})
		d.expect(t, fromUplink("up0"), quote(wired, shortQuote), passed("not_ours"))
	})
	t.Run("G-6 about a bridge that is internal now", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), mine)
		d.change(t, func(s *state.State) { d.w.setBridge(s, "br0", bpf.DatapathBridgeFlagBRIDGE_INTERNAL, 0) })
		d.expect(t, fromUplink("up0"), quote(wired, shortQuote), passed("not_ours"))
	})
}
