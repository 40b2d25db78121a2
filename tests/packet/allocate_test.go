package packet

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// E-1: two containers dial one peer from one port.
func testSamePort(t *testing.T, d *datapath) {
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		t.Run("E-1 "+proto, func(t *testing.T) {
			d.reset(t)
			packet := func(src, dst string) frame { f := udp(src, dst); f.proto = proto; return f }
			first, second := packet("172.17.0.2:40000", "192.0.2.10:80"), packet("172.17.0.3:40000", "192.0.2.10:80")
			d.expect(t, fromContainer("c1"), first, redirected("br0 out", first.from("198.51.100.1:40000").withTTL(63)))
			r := d.send(t, fromContainer("c2"), second)
			src, _ := r.addresses()
			if src == "198.51.100.1:40000" || !strings.HasPrefix(src, "198.51.100.1:") {
				t.Fatalf("the second container leaves as %s", src)
			}
			d.expect(t, fromContainer("c2"), second, redirected("br0 out", second.from(src).withTTL(63)))
			for dst, to := range map[string]struct{ veth, addr string }{
				"198.51.100.1:40000": {"c1", "172.17.0.2:40000"}, src: {"c2", "172.17.0.3:40000"},
			} {
				answer := packet("192.0.2.10:80", dst)
				d.expect(t, fromUplink("up0"), answer, redirected("br0 out", answer.to(to.addr).withTTL(63).macs(d.w.gateway(to.veth))))
			}
		})
	}
}

// B-1: two containers ping one machine with one id.
func testSameID(t *testing.T, d *datapath) {
	d.reset(t)
	d.send(t, fromContainer("c1"), echo("172.17.0.2", "192.0.2.10", 7))
	r := d.send(t, fromContainer("c2"), echo("172.17.0.3", "192.0.2.10", 7))
	id := uint16(r.data[38])<<8 | uint16(r.data[39])
	if id == 7 || r.verdict != verdictRedirect {
		t.Fatalf("verdict %d, the second container's id is %d", r.verdict, id)
	}
	if err := checksums(r.data); err != nil {
		t.Error(err)
	}
	for veth, c := range map[string]struct {
		id   uint16
		addr string
	}{"c1": {7, "172.17.0.2"}, "c2": {id, "172.17.0.3"}} {
		answer := echoReply("192.0.2.10", "198.51.100.1", c.id)
		d.expect(t, fromUplink("up0"), answer, redirected("br0 out", answer.to(c.addr).withID(7).withTTL(63).macs(d.w.gateway(veth))))
	}
}

// B-4: an ICMP reply that answers nothing begins no flow; else the peer's own pings of the host would be taken for answers to it.
func testUnasked(t *testing.T, d *datapath) {
	for name, kinds := range map[string]struct{ reply, query uint8 }{
		"echo": {0, 8}, "timestamp": {14, 13}, "information": {16, 15}, "address mask": {18, 17},
	} {
		t.Run("B-4 "+name, func(t *testing.T) {
			d.reset(t)
			reply := icmp("172.17.0.2", "192.0.2.10", kinds.reply, 7)
			for _, h := range []hook{fromContainer("c1"), toUplink("up0")} {
				r := d.send(t, h, reply)
				if src, _ := r.addresses(); r.verdict == verdictRedirect || h.prog == "to_uplink" && r.verdict != verdictDrop {
					t.Errorf("%s: verdict is %d, source %s", h, r.verdict, src)
				}
			}
			d.expectFlows(t)
			d.expect(t, fromUplink("up0"), icmp("192.0.2.10", "198.51.100.1", kinds.query, 7), passed("not_ours"))
		})
	}
}

// B-2, E-3: the host and a container use one id, or one port, towards one peer; whoever comes first, each gets its own answers.
func testHostSame(t *testing.T, d *datapath) {
	ping := func(src string) frame { return echo(src, "192.0.2.10", 7) }
	for _, hostFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("B-2 host first %v", hostFirst), func(t *testing.T) {
			d.reset(t)
			if hostFirst {
				d.expect(t, toUplink("up0"), ping("198.51.100.1"), unseen())
			}
			d.send(t, fromContainer("c1"), ping("172.17.0.2"))
			r := d.send(t, toUplink("up0"), ping("198.51.100.1"))
			if r.verdict != verdictNext {
				t.Fatalf("verdict of the host's ping is %d", r.verdict)
			}
			host := uint16(r.data[38])<<8 | uint16(r.data[39])
			r = d.send(t, fromContainer("c1"), ping("172.17.0.2"))
			container := uint16(r.data[38])<<8 | uint16(r.data[39])
			if host == container {
				t.Fatalf("the host and the container both leave with id %d", host)
			}
			answer := echoReply("192.0.2.10", "198.51.100.1", container)
			d.expect(t, fromUplink("up0"), answer, redirected("br0 out", answer.to("172.17.0.2").withID(7).withTTL(63).macs(d.w.gateway("c1"))))
			r = d.send(t, fromUplink("up0"), echoReply("192.0.2.10", "198.51.100.1", host))
			if got := uint16(r.data[38])<<8 | uint16(r.data[39]); r.verdict != verdictNext || got != 7 {
				t.Errorf("the host's answer: verdict %d, id %d; want %d, 7", r.verdict, got, verdictNext)
			}
		})
	}
	t.Run("K-11 the kernel translates what was a flow of ours a moment ago", func(t *testing.T) {
		// The bridge is put to the host's rules: the kernel has the flow now, with our translation, and of our two entries one is deleted.
		out, back := udp("172.17.0.2:40000", "192.0.2.10:53"), udp("192.0.2.10:53", "198.51.100.1:40000")
		d.reset(t)
		for _, s := range []sent{{fromContainer("c1"), out}, {fromUplink("up0"), back}, {fromContainer("c1"), out}} {
			d.send(t, s.hook, s.frame)
		}
		d.change(t, d.w.offloading)
		if err := d.coll.Maps["flows4"].Delete(local("udp", out.src, out.dst)); err != nil {
			t.Fatal(err)
		}
		d.expect(t, toUplink("up0"), udp("198.51.100.1:40000", "192.0.2.10:53"), unseen())
	})
	t.Run("E-3 the host opens a container's tuple later", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), tcp("172.17.0.2:40000", "192.0.2.10:80", "S"))
		r := d.send(t, toUplink("up0"), tcp("198.51.100.1:40000", "192.0.2.10:80", "S"))
		src, _ := r.addresses()
		if r.verdict != verdictNext || src == "198.51.100.1:40000" {
			t.Fatalf("verdict %d, the host leaves as %s, which is the container's", r.verdict, src)
		}
		answer := tcp("192.0.2.10:80", src, "SA")
		r = d.send(t, fromUplink("up0"), answer)
		if _, dst := r.addresses(); r.verdict != verdictNext || dst != "198.51.100.1:40000" {
			t.Errorf("the host's answer: verdict %d, to %s", r.verdict, dst)
		}
		if err := checksums(r.data); err != nil {
			t.Error(err)
		}
	})
}

// E-2, E-4, E-21: a port on which the host listens, or from which it talks, is not a container's to leave with.
func testHostSockets(t *testing.T, d *datapath) {
	for _, c := range []struct {
		name string
		open func() (interface{ Close() error }, error)
		in   frame
		kept bool
	}{
		{
			"E-4 a listening tcp socket", func() (interface{ Close() error }, error) { return net.Listen("tcp4", "198.51.100.1:40001") },
			tcp("172.17.0.2:40001", "192.0.2.10:80", "S"), false,
		},
		{
			"E-21 a udp socket on every address", func() (interface{ Close() error }, error) { return net.ListenPacket("udp4", ":40001") },
			udp("172.17.0.2:40001", "192.0.2.10:80"), false,
		},
		{
			"E-2 a udp socket that talks to the same peer",
			func() (interface{ Close() error }, error) {
				return net.DialUDP("udp4", net.UDPAddrFromAddrPort(addrPort("198.51.100.1:40001")), net.UDPAddrFromAddrPort(addrPort("192.0.2.10:80")))
			},
			udp("172.17.0.2:40001", "192.0.2.10:80"), false,
		},
		{
			"E-18 a udp socket that talks to another peer",
			func() (interface{ Close() error }, error) {
				return net.DialUDP("udp4", net.UDPAddrFromAddrPort(addrPort("198.51.100.1:40001")), net.UDPAddrFromAddrPort(addrPort("192.0.2.11:80")))
			},
			udp("172.17.0.2:40001", "192.0.2.10:80"), true,
		},
		{
			"E-9 tcp is not udp", func() (interface{ Close() error }, error) { return net.ListenPacket("udp4", ":40001") },
			tcp("172.17.0.2:40001", "192.0.2.10:80", "S"), true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			sock, err := c.open()
			if err != nil {
				t.Fatal(err)
			}
			defer sock.Close()
			r := d.send(t, fromContainer("c1"), c.in)
			src, _ := r.addresses()
			if r.verdict != verdictRedirect || (src == "198.51.100.1:40001") != c.kept {
				t.Errorf("verdict %d, the container leaves as %s; its port is to be kept: %v", r.verdict, src, c.kept)
			}
		})
	}
}

// E-4, E-5: a published port is not a container's to leave with, and a published port's clients are not taken for answers.
func testPublishedPort(t *testing.T, d *datapath) {
	d.reset(t)
	d.send(t, fromContainer("c2"), tcp("172.17.0.3:8080", "192.0.2.10:80", "S"))
	// Published when a container leaves with it already: the flow goes on, and so do the port's clients.
	d.change(t, publishWeb)
	answer := tcp("192.0.2.10:80", "198.51.100.1:8080", "SA")
	d.expect(t, fromUplink("up0"), answer, redirected("br0 out", answer.to("172.17.0.3:8080").withTTL(63).macs(d.w.gateway("c2"))))
	client := tcp("192.0.2.11:80", "198.51.100.1:8080", "S")
	d.expect(t, fromUplink("up0"), client, redirected("br0 in", client.to("172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1"))))

	r := d.send(t, fromContainer("c1"), tcp("172.17.0.2:8080", "192.0.2.12:80", "S"))
	if src, _ := r.addresses(); r.verdict != verdictRedirect || src == "198.51.100.1:8080" {
		t.Errorf("verdict %d, the container leaves as %s, which is published", r.verdict, src)
	}
}

// H-10: a socket of the host that talks from the number of a published port gets its answers; the port's clients are not its.
func testHostTalks(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, publishWeb)
	sock, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(addrPort("198.51.100.1:8080")), net.UDPAddrFromAddrPort(addrPort("192.0.2.10:53")))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	d.expect(t, fromUplink("up0"), udp("192.0.2.10:53", "198.51.100.1:8080"), passed("not_ours"))
	d.expectFlows(t)
	client := udp("192.0.2.10:54", "198.51.100.1:8080")
	d.expect(t, fromUplink("up0"), client, redirected("br0 in", client.to("172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1"))))
}

// H-11: that dockerd listens on every published port changes nothing.
func testDummyListener(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, publishWeb)
	listener, err := net.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := net.ListenPacket("udp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for port, client := range map[string]frame{
		"80": tcp("192.0.2.10:50000", "198.51.100.1:8080", "S"), "53": udp("192.0.2.10:50000", "198.51.100.1:8080"),
	} {
		d.expect(t, fromUplink("up0"), client, redirected("br0 in", client.to("172.17.0.2:"+port).withTTL(63).macs(d.w.gateway("c1"))))
	}
	ack := tcp("192.0.2.10:50001", "198.51.100.1:8080", "A")
	d.expect(t, fromUplink("up0"), ack, redirected("br0 in", ack.to("172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1"))))
}

// E-4: ports that the administrator keeps.
func testReservedPort(t *testing.T, d *datapath) {
	d.reset(t)
	reserved := d.coll.Maps["reserved_ports"]
	if err := reserved.Put(uint32(40001/64), uint64(1)<<(40001%64)); err != nil {
		t.Fatal(err)
	}
	defer reserved.Put(uint32(40001/64), uint64(0))
	for port, kept := range map[string]bool{"40000": true, "40001": false, "40002": true} {
		r := d.send(t, fromContainer("c1"), tcp("172.17.0.2:"+port, "192.0.2.10:80", "S"))
		if src, _ := r.addresses(); (src == "198.51.100.1:"+port) != kept {
			t.Errorf("port %s leaves as %s", port, src)
		}
	}
}

// TestNarrowRange has only eight ports to leave with, and a kernel that does not say which address a route prefers.
func TestNarrowRange(t *testing.T) {
	d := load(t, options{
		programs: []string{"from_container", "from_uplink", "clock"},
		vars: map[string]any{
			"nat_port_min": uint16(65528), "nat_port_max": uint16(65535), "has_fib_src": uint8(0), "has_fib_skip_neigh": uint8(0),
		},
	})
	var want, got []string
	for port := 65528; port <= 65535; port++ {
		want = append(want, fmt.Sprintf("198.51.100.1:%d", port))
	}
	// E-6: every port, the last too. The first flow takes a port outside the range, because it is its own.
	d.send(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"))
	for i := range want {
		from := fmt.Sprintf("172.17.0.%d:5000", 20+i)
		d.change(t, func(s *state.State) {
			for j := range want {
				d.w.addEndpoint(s, "c2", fmt.Sprintf("172.17.0.%d", 20+j))
			}
		})
		r := d.send(t, fromContainer("c2"), udp(from, "192.0.2.10:53"))
		if r.verdict != verdictRedirect {
			t.Fatalf("E-6: with %d of %d ports taken the verdict is %d", i, len(want), r.verdict)
		}
		src, _ := r.addresses()
		got = append(got, src)
	}
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("E-6: ports are %v, want %v", got, want)
	}

	// E-7: then a new flow to the same peer is dropped, one to another peer is not, and those that are there go on.
	before := d.flows(t)
	d.expect(t, fromContainer("c2"), udp("172.17.0.3:5000", "192.0.2.10:53"), dropped("no_port"))
	d.expectFlows(t, before...)
	d.expect(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"),
		redirected("br0 out", udp("198.51.100.1:5000", "192.0.2.10:53").withTTL(63)))
	// E-8: the same ports serve for another peer.
	d.expect(t, fromContainer("c2"), udp("172.17.0.3:5000", "192.0.2.11:53"),
		redirected("br0 out", udp("198.51.100.1:5000", "192.0.2.11:53").withTTL(63)))

	// E-12: without the kernel's word the uplink's own address on the next hop's network is taken, and none if it has none.
	d.reset(t)
	d.change(t, func(s *state.State) {
		up := s.Uplinks[d.w.devices["up0"].index]
		up.Naddrs = 3
		up.Addrs = [8]uint32{addr("10.0.0.1"), addr("198.51.100.7"), addr("198.51.100.8")}
		up.Masks = [8]uint32{addr("255.0.0.0"), addr("255.255.255.0"), addr("255.255.255.0")}
		s.Uplinks[d.w.devices["up0"].index] = up
	})
	d.expect(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"),
		redirected("br0 out", udp("198.51.100.7:5000", "192.0.2.10:53").withTTL(63)))
	d.reset(t)
	d.change(t, func(s *state.State) { s.Uplinks[d.w.devices["up0"].index] = bpf.Uplink{Mtu: 1500} })
	d.expect(t, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"), dropped("no_address"))
	d.expectFlows(t)
}

// testParallel: E-9, the same first packets on many threads at once. Whoever wins, each flow has just its two entries.
func testParallel(t *testing.T, d *datapath) {
	const rounds, threads, containers = 40, 8, 4
	veths := []string{"c1", "c2", "c1", "c2"}
	for _, proto := range []string{"udp", "icmp", "gre"} {
		t.Run("E-9 "+proto, func(t *testing.T) {
			for range rounds {
				d.reset(t)
				d.change(t, func(s *state.State) {
					for i := range containers {
						d.w.addEndpoint(s, veths[i], fmt.Sprintf("172.17.0.%d", 20+i))
					}
				})
				// All containers contend for one port at the wire, and the threads for each container's flow.
				verdicts := make([]int32, threads)
				var wg sync.WaitGroup
				for i := range threads {
					f := portless(proto, fmt.Sprintf("172.17.0.%d", 20+i%containers), "192.0.2.10")
					switch proto {
					case "udp":
						f = udp(fmt.Sprintf("172.17.0.%d:5000", 20+i%containers), "192.0.2.10:53")
					case "icmp":
						f = echo(f.src, f.dst, 7)
					case "gre": // without ports only one container can have the peer
						f = portless(proto, "172.17.0.20", "192.0.2.10")
					}
					h := fromContainer(veths[i%containers])
					if proto == "gre" {
						h = fromContainer("c1")
					}
					b := d.w.addressed(h, f).bytes()
					wg.Add(1)
					go func() {
						defer wg.Done()
						runtime.LockOSThread()
						defer runtime.UnlockOSThread()
						r, err := d.try(h, b, skb{})
						if err != nil {
							t.Error(err)
						}
						verdicts[i] = r.verdict
					}()
				}
				wg.Wait()
				for i, v := range verdicts {
					if v != verdictRedirect {
						t.Errorf("verdict of thread %d is %d, counted: %v", i, v, d.counters(t))
					}
				}
				flows := containers
				if proto == "gre" {
					flows = 1
				}
				if lines := d.flows(t); len(lines) != 2*flows {
					t.Errorf("%d entries for %d flows:\n%s", len(lines), flows, strings.Join(lines, "\n"))
				}
				if d.expectPairs(t); t.Failed() {
					return
				}
			}
		})
	}
}

// expectPairs checks that each entry of the flow table has its partner, and that each is the other's inverse.
func (d *datapath) expectPairs(tb testing.TB) {
	tb.Helper()
	rows := d.flowRows(tb)
	byKey := map[bpf.FlowKey]bpf.Flow{}
	for _, r := range rows {
		byKey[r.key] = r.flow
	}
	for _, r := range rows {
		f := r.flow
		partner := bpf.FlowKey{Saddr: f.Daddr, Daddr: f.Saddr, Sport: f.Dport, Dport: f.Sport, Proto: r.key.Proto, Zone: f.PartnerZone}
		p, ok := byKey[partner]
		if !ok {
			tb.Errorf("half a pair: %s", d.describeFlow(r))
			continue
		}
		if p.Saddr != r.key.Daddr || p.Daddr != r.key.Saddr || p.Sport != r.key.Dport || p.Dport != r.key.Sport {
			tb.Errorf("not its inverse: %s and %s", d.describeFlow(r), d.describeFlow(flowRow{key: partner, flow: p}))
		}
	}
}
