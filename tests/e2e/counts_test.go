package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// L-1: the metrics count what was sent, no more and no less, and nothing else: compared with what ping, iperf3 and the test itself say they
// have sent, and with what the kernels of the containers counted. Whatever a step does not name must not move.
func TestCounts(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		a := s.Run(t, "a", "-p", "8080:80", "-p", "5201:5201")
		b := s.Run(t, "b")
		s.still(t, a, b)
		s.Remote.Ping(t, 1).Ping(t, lab.HostIP, []byte("the way back")) // so that the hosts on the way know each other
		s.Remote.Serve(t, "far", ":7000")
		// What is unanswered comes at once, however much of it.
		s.Remote.SetSysctl(t, "net/ipv4/icmp_ratelimit", "0")

		t.Run("ping", func(t *testing.T) { countPings(t, s, a, b) })
		t.Run("iperf3", func(t *testing.T) { countStreams(t, s, a, b) })
		t.Run("nat", func(t *testing.T) { countNAT(t, s, a, b) })
		t.Run("bad packets", func(t *testing.T) { countBad(t, s, a, b) })
		t.Run("many flows", func(t *testing.T) { countSeries(t, s, a) })
	})
}

func countPings(t *testing.T, s site, a, b *lab.Container) {
	const n = 20
	var bytes float64
	s.counted(t, func() { bytes = pings(t, a.NS, lab.RemoteIP, n) }).expect(t,
		forwarded("out", 2*n, 2*bytes), endpoint(a, n, bytes, n, bytes), flows("icmp", 1), kept(1))
	s.counted(t, func() { bytes = pings(t, a.NS, b.IP.String(), n) }).expect(t,
		forwarded("local", 2*n, 2*bytes), endpoint(a, n, bytes, n, bytes), endpoint(b, n, bytes, n, bytes), flows("icmp", 1))
	s.counted(t, func() { bytes = pings(t, s.NS, a.IP.String(), n) }).expect(t,
		forwarded("host", 2*n, 2*bytes), endpoint(a, n, bytes, n, bytes), flows("icmp", 1))
	s.counted(t, func() { bytes = pings(t, a.NS, lab.GatewayIP, n) }).expect(t,
		forwarded("host", 2*n, 2*bytes), endpoint(a, n, bytes, n, bytes), flows("icmp", 1))
}

// countStreams: of two connections one is for control, and the other for what is measured.
func countStreams(t *testing.T, s site, a, b *lab.Container) {
	var said measured
	got, is := s.between(t, a, s.Remote, func() { said = iperf(t, a.NS, s.Remote, lab.HostIP, 5201, "-n", "8M") })
	got.expect(t, is.all("in"), is.of(a), published(a, "5201:5201/tcp", "tcp", 2, is), flows("tcp", 2))
	if said.received < 1<<20 || is.recvBytes < said.received { // it ends before all is read
		t.Errorf("%g bytes came to the device, and iperf3 has read %g", is.recvBytes, said.received)
	}
	got, is = s.between(t, a, s.Remote, func() { iperf(t, s.Remote, a.NS, lab.RemoteIP, 5202, "-n", "8M") })
	got.expect(t, is.all("out"), is.of(a), flows("tcp", 2), kept(2))
	got, is = s.between(t, a, b.NS, func() { iperf(t, b.NS, a.NS, b.IP.String(), 5203, "-n", "8M") })
	got.expect(t, is.all("local"), is.of(a), is.back().of(b), flows("tcp", 2))
	// The host's kernel counts the test's own looks at the metrics too; small segments are told one by one by the container's.
	before := snmp(t, a.NS)["Tcp:InSegs"]
	got, is = s.between(t, a, s.Router, func() {
		for range 20 {
			s.NS.Ask(t, "tcp", a.At(80))
		}
	})
	is.received = snmp(t, a.NS)["Tcp:InSegs"] - before
	got.expect(t, is.all("host"), is.of(a), flows("tcp", 20))

	got, is = s.between(t, a, s.Remote, func() {
		said = iperf(t, s.Remote, a.NS, lab.RemoteIP, 5204, "-u", "-k", "500", "-l", "1000", "-b", "20M")
	})
	got.expect(t, is.all("out"), is.of(a), flows("tcp", 1), flows("udp", 1), kept(2))
	// The flow's own counters, as `flow list` shows them: each side sends a datagram of 4 bytes ahead of those that iperf3 tells of.
	eq(t, "datagrams that iperf3 sent", said.packets, 500)
	for _, f := range s.Flows(t, "--container", a.Name, "--proto", "udp") {
		if f.Original.DestinationPort != 5204 {
			continue
		}
		there := api.Traffic{Packets: f.Packets - f.Reply.Packets, Bytes: f.Bytes - f.Reply.Bytes}
		eq(t, "the flow there", there, api.Traffic{Packets: 501, Bytes: 500*(1000+42) + 4 + 42})
		eq(t, "and back", f.Reply, api.Traffic{Packets: 1, Bytes: 4 + 42})
		return
	}
	t.Error("flow list has not the flow of iperf3")
}

func countNAT(t *testing.T, s site, a, b *lab.Container) {
	// Two who want the same port: one more is tried at least, and as many as there are tries without a flow were somebody's.
	got := s.counted(t, func() {
		for _, c := range []*lab.Container{a, b} {
			c.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(":5001"))
		}
	})
	eq(t, "flows", got[`flows_begun_total{proto="udp"}`], 2)
	eq(t, "flows that tried", got["nat_tries_count"], 2)
	eq(t, "conflicts", got["nat_conflicts_total"], got["nat_tries_sum"]-2)
	eq(t, "packets out", got[`forwarded_packets_total{bridge="docker0",path="out"}`], 4)
	if got["nat_conflicts_total"] < 1 {
		t.Errorf("two flows from one port are no conflict: %v", got)
	}

	// The host's own sockets are led to the container, whatever address they dial.
	got = s.counted(t, func() {
		for _, addr := range []string{"127.0.0.1", lab.HostIP, lab.GatewayIP} {
			s.NS.Ask(t, "tcp", lab.At(addr, 8080))
		}
	})
	eq(t, "sockets", got["sockets_translated_total"], 3)

	// A closed port: the errors come back to who asked.
	const unanswered = 4
	got, is := s.between(t, a, s.Remote, func() {
		for range unanswered {
			a.NS.Send(t, lab.At(lab.RemoteIP, 7999), []byte("nobody"))
		}
	})
	eq(t, "what was sent and answered", [2]float64{is.sent, is.received}, [2]float64{unanswered, unanswered})
	got.expect(t, is.all("out"), is.of(a), flows("udp", unanswered), kept(unanswered), tally{"icmp_errors_translated_total": unanswered})

	// In three pieces each.
	const large = 5
	sink := s.Remote.ListenUDP(t, ":7001")
	defer sink.Close()
	from := a.NS.ListenUDP(t, ":0")
	got, is = s.between(t, a, s.Remote, func() {
		for range large {
			if _, err := from.WriteToUDPAddrPort(make([]byte, 3000), netip.MustParseAddrPort(lab.At(lab.RemoteIP, 7001))); err != nil {
				t.Fatal(err)
			}
		}
	})
	eq(t, "bytes that were sent", is.sentBytes, large*(3008+3*(14+20)))
	got.expect(t, forwarded("out", 3*large, is.sentBytes), endpoint(a, 0, 0, 3*large, is.sentBytes), flows("udp", 1), kept(1),
		tally{`fragments_total{piece="first"}`: large, `fragments_total{piece="later"}`: 2 * large})
}

func countBad(t *testing.T, s site, a, b *lab.Container) {
	const n = 6
	end := func(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }
	inside := lab.Way{SrcMAC: a.NS.Device(t, "eth0").HardwareAddr, DstMAC: s.gateway(t), Src: end(a.IP.String(), 4000), Dst: end(lab.RemoteIP, 7001)}
	wire := s.wire(t, end(lab.RemoteIP, 4000), end(lab.HostIP, 8080))
	datagram := func(w lab.Way, change func(*lab.Way), spoil func([]byte)) []byte {
		change(&w)
		f := w.UDP(t, []byte("bad"))
		spoil(f)
		return f
	}
	as, whole := func(*lab.Way) {}, func([]byte) {}
	drop := func(reason string) tally { return tally{fmt.Sprintf(`dropped_packets_total{reason=%q}`, reason): n} }
	atRules := func(reason string, native ...tally) []tally {
		if s.World == lab.Native {
			return append(native, drop(reason))
		}
		return []tally{{`kernel_packets_total{reason="rules"}`: n}}
	}
	const l3 = 14 // of the frame
	for _, c := range []struct {
		name  string
		ns    *lab.Netns
		dev   string
		frame []byte
		want  []tally
	}{
		{"spoofed", a.NS, "eth0", datagram(inside, func(w *lab.Way) { w.Src = end(b.IP.String(), 4000) }, whole), []tally{drop("spoofed"), droppedAt(a, 0, n)}},
		{"loopback source from a container", a.NS, "eth0", datagram(inside, func(w *lab.Way) { w.Src = end("127.0.0.1", 4000) }, whole), []tally{drop("loopback"), droppedAt(a, 0, n)}},
		{"truncated", a.NS, "eth0", datagram(inside, as, func(f []byte) { f[l3+2] = 9 }), []tally{drop("truncated"), droppedAt(a, 0, n)}},
		{"length of UDP", a.NS, "eth0", datagram(inside, as, func(f []byte) { f[l3+20+5] = 3 }), []tally{drop("l4_header"), droppedAt(a, 0, n)}},
		{"header of IP", s.Router, "r0", datagram(wire, as, func(f []byte) { f[l3] = 0x44 }), []tally{drop("ip_header")}},
		{"loopback source from the wire", s.Router, "r0", datagram(wire, func(w *lab.Way) { w.Src = end("127.0.0.1", 4000) }, whole), []tally{drop("loopback")}},
		{"to a container's own address", s.Router, "r0", datagram(wire, func(w *lab.Way) { w.Dst = end(b.IP.String(), 80) }, whole), atRules("direct", droppedAt(b, n, 0))},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.counted(t, func() {
				for range n {
					c.ns.Inject(t, c.dev, c.frame)
				}
			}).expect(t, c.want...)
		})
	}
}

// countSeries: however many flows there are, to whatever ports, the metrics have no line more.
func countSeries(t *testing.T, s site, a *lab.Container) {
	lines := func() (names []string) {
		for sample := range s.settled(t, a.NS) {
			// A protocol's or a state's first flow is a line for all of its kind.
			if strings.HasPrefix(sample, "ebpfnet_") && !strings.HasPrefix(sample, "ebpfnet_flows{") && !strings.HasPrefix(sample, "ebpfnet_flows_expired") {
				names = append(names, sample)
			}
		}
		slices.Sort(names)
		return names
	}
	before := lines()
	for port := range 100 {
		a.NS.Send(t, lab.At(lab.RemoteIP, 9000+port), []byte("one of many"))
	}
	if diff := cmp.Diff(before, lines()); diff != "" {
		t.Errorf("a hundred flows have changed what is shown (-before +after):\n%s", diff)
	}
}
