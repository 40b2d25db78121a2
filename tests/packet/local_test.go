package packet

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testLocal: between containers.
func testLocal(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "172.17.0.3:80", "S")
	flows := []string{
		"new local tcp 172.17.0.2:40000>172.17.0.3:80 peer c2",
		"new local tcp 172.17.0.3:80>172.17.0.2:40000 peer c1",
	}
	d.runCases(t, []packetCase{
		{
			name: "G-1 G-2 on one bridge: ttl and link layer as they were", hook: fromContainer("c1"), in: syn,
			want: redirected("br0 local", syn), flows: flows,
		},
		{
			name: "G-1 the last ttl is not spent on one bridge", hook: fromContainer("c1"), in: syn.withTTL(1),
			want: redirected("br0 local", syn.withTTL(1)), flows: flows,
		},
		{
			name: "G-2 answer", before: []sent{{fromContainer("c1"), syn}}, hook: fromContainer("c2"),
			in:   tcp("172.17.0.3:80", "172.17.0.2:40000", "SA"),
			want: redirected("br0 local", tcp("172.17.0.3:80", "172.17.0.2:40000", "SA")), flows: flows,
		},
		{
			name: "ping", hook: fromContainer("c1"), in: echo("172.17.0.2", "172.17.0.3", 9), want: redirected("br0 local", echo("172.17.0.2", "172.17.0.3", 9)),
			flows: []string{
				"new local icmp 172.17.0.2:9>172.17.0.3:0 peer c2",
				"new local icmp 172.17.0.3:0>172.17.0.2:9 peer c1",
			},
		},
		{name: "G-3 arp between containers", hook: fromContainer("c1"), in: arp("0a:00:00:00:17:02", "172.17.0.2"), want: passed("not_ipv4")},
		{name: "G-3 arp, a probe for an address", hook: fromContainer("c1"), in: arp("0a:00:00:00:17:02", "0.0.0.0"), want: passed("not_ipv4")},
		{name: "G-5 arp for another's address", hook: fromContainer("c1"), in: arp("0a:00:00:00:17:02", "172.17.0.3"), want: dropped("spoofed")},
		{name: "G-5 arp for the gateway's address", hook: fromContainer("c1"), in: arp("0a:00:00:00:17:02", "172.17.0.1"), want: dropped("spoofed")},
		{name: "G-5 arp with another's link-layer address", hook: fromContainer("c1"), in: arp("0a:00:00:00:17:03", "172.17.0.2"), want: dropped("spoofed")},
		{
			name: "G-5 arp for the gateway's address, where that is allowed", hook: fromContainer("c1"), change: d.w.spoofing,
			in: arp("0a:00:00:00:17:02", "172.17.0.1"), want: passed("not_ipv4"),
		},
		{
			name: "G-4 an address of the bridge that no endpoint has", hook: fromContainer("c1"), in: syn.to("172.17.0.99:80"),
			want: passed("unknown_target"),
		},
		{
			name: "G-4 G-13 an address that no endpoint has as a source, where that is allowed", hook: fromContainer("c1"),
			in: syn.from("172.17.0.99:40000"), want: passed("unknown_source"), change: d.w.spoofing,
		},
		{name: "G-5 an address that no endpoint has as a source", hook: fromContainer("c1"), in: syn.from("172.17.0.99:40000"), want: dropped("spoofed")},
		{
			name: "G-5 another link-layer address", hook: fromContainer("c1"),
			in: syn.macs(mac("0a:00:00:00:99:99"), d.w.devices["c2"].containerMAC()), want: dropped("spoofed"),
		},
		{
			name: "G-5 another link-layer address, where that is allowed", hook: fromContainer("c1"), change: d.w.spoofing,
			in:   syn.macs(mac("0a:00:00:00:99:99"), d.w.devices["c2"].containerMAC()),
			want: redirected("br0 local", syn.macs(mac("0a:00:00:00:99:99"), d.w.devices["c2"].containerMAC())), flows: flows,
		},
		{
			name: "G-5 another link-layer address, over docker's rules", hook: fromContainer("c1"), change: d.w.overRules,
			in: syn.macs(mac("0a:00:00:00:99:99"), d.w.devices["c2"].containerMAC()), want: dropped("spoofed"),
		},
		{
			name: "G-5 another link-layer address, multicast", hook: fromContainer("c1"),
			in: udp("172.17.0.2:1", "224.0.0.1:1").macs(mac("0a:00:00:00:99:99"), mac("01:00:5e:00:00:01")), want: dropped("spoofed"),
		},
		{name: "G-4 a stranger's veth", hook: fromContainer("s1"), in: syn.from("172.17.0.9:40000"), want: passed("unknown_source")},
		{
			name: "G-12 a veth that is not known yet", hook: fromContainer("c1"), in: syn, want: passed("unknown_source"),
			change: func(s *state.State) { delete(s.Veths, d.w.devices["c1"].index) },
		},
		{
			name: "G-12 an endpoint that is gone", hook: fromContainer("c1"), in: syn, want: passed("unknown_target"),
			change: func(s *state.State) { delete(s.Endpoints, addrKey("172.17.0.3")) },
		},
		{
			name: "G-4 to a container by way of another that routes", hook: fromContainer("c1"),
			in: syn.macs(mac("0a:00:00:00:17:02"), d.w.devices["s1"].containerMAC()), want: passed("unknown_target"),
		},
		{
			name: "G-4 to outside by way of a container that routes", hook: fromContainer("c1"),
			in: syn.to("192.0.2.10:80").macs(d.w.devices["c1"].containerMAC(), d.w.devices["c2"].containerMAC()), want: passed("unknown_target"),
		},
		{name: "G-5 another container's address", hook: fromContainer("c1"), in: syn.from("172.17.0.3:40000").to("172.17.0.2:80"), want: dropped("spoofed")},
		{name: "G-5 another container's address, outwards", hook: fromContainer("c1"), in: syn.from("172.17.0.3:40000").to("192.0.2.10:80"), want: dropped("spoofed")},
		{name: "G-5 another bridge's container's address", hook: fromContainer("c1"), in: syn.from("172.18.0.2:40000"), want: dropped("spoofed")},
		{name: "G-5 the gateway's address", hook: fromContainer("c1"), in: syn.from("172.17.0.1:40000"), want: dropped("spoofed")},
		{name: "G-5 the uplink's address", hook: fromContainer("c1"), in: syn.from("198.51.100.1:40000"), want: dropped("spoofed")},
		{name: "G-5 a stranger with a container's address", hook: fromContainer("s1"), in: syn, want: dropped("spoofed")},
		{name: "G-6 another bridge", hook: fromContainer("c1"), in: syn.to("172.18.0.2:80"), want: dropped("isolated")},
		{name: "G-6 another bridge, to no endpoint", hook: fromContainer("c1"), in: syn.to("172.18.0.77:80"), want: dropped("isolated")},
		{name: "G-6 into an internal network", hook: fromContainer("c1"), in: syn.to("172.19.0.2:80"), want: dropped("internal")},
		{name: "G-6 another bridge, over docker's rules", change: d.w.overRules, hook: fromContainer("c1"), in: syn.to("172.18.0.2:80"), want: passed("rules")},
		{
			name: "G-6 icc off", hook: fromContainer("c1"), in: syn, want: dropped("icc"),
			change: func(s *state.State) { d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_ICC) },
		},
		{
			name: "G-6 icc off, over docker's rules", hook: fromContainer("c1"), in: syn, want: passed("rules"),
			change: func(s *state.State) { d.w.setBridge(s, "br0", dockerRules, bpf.DatapathBridgeFlagBRIDGE_ICC) },
		},
		{
			name: "F-11 over docker's rules the middle of a connection is the bridge's", change: d.w.overRules, hook: fromContainer("c1"),
			in: tcp("172.17.0.2:40000", "172.17.0.3:80", "A"), want: passed("midstream"),
		},
		{
			name: "G-3 H-5 dhcp before there is an address", hook: fromContainer("c1"),
			in: udp("0.0.0.0:68", "255.255.255.255:67"), want: passed("multicast"),
		},
	})
}

// testHost: between the host and containers.
func testHost(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.1:40000", "172.17.0.2:80", "S")
	dial := tcp("172.17.0.2:40000", "198.51.100.1:22", "S")
	out := []string{
		"new local tcp 172.17.0.1:40000>172.17.0.2:80 dev c1",
		"new local tcp 172.17.0.2:80>172.17.0.1:40000 stack",
	}
	in := []string{
		"new local tcp 172.17.0.2:40000>198.51.100.1:22 stack",
		"new local tcp 198.51.100.1:22>172.17.0.2:40000 dev c1",
	}
	d.runCases(t, []packetCase{
		{name: "G-9 the host to a container", hook: toBridge("br0"), in: syn, want: redirected("br0 host", syn), flows: out},
		{
			name: "the container's answer", before: []sent{{toBridge("br0"), syn}}, hook: fromContainer("c1"),
			in: tcp("172.17.0.2:80", "172.17.0.1:40000", "SA"), want: stacked("br0 host", tcp("172.17.0.2:80", "172.17.0.1:40000", "SA")), flows: out,
		},
		{name: "E-14 a container to an address of the host", hook: fromContainer("c1"), in: dial, want: stacked("br0 host", dial), flows: in},
		{
			name: "the host's answer", before: []sent{{fromContainer("c1"), dial}}, hook: toBridge("br0"),
			in:    tcp("198.51.100.1:22", "172.17.0.2:40000", "SA"),
			want:  redirected("br0 host", tcp("198.51.100.1:22", "172.17.0.2:40000", "SA")),
			flows: in,
		},
		{
			name: "H-15 a socket of the host that is bound to loopback", hook: toBridge("br0"), in: syn.from("127.0.0.1:40000"),
			want: redirected("br0 host", syn), flows: []string{
				"new local tcp 127.0.0.1:40000>172.17.0.2:80 = 172.17.0.1:40000>172.17.0.2:80 dev c1",
				"new local tcp 172.17.0.2:80>172.17.0.1:40000 = 172.17.0.2:80>127.0.0.1:40000 stack",
			},
		},
		{
			name: "H-15 its answer", before: []sent{{toBridge("br0"), syn.from("127.0.0.1:40000")}}, hook: fromContainer("c1"),
			in: tcp("172.17.0.2:80", "172.17.0.1:40000", "SA"), want: stacked("br0 host", tcp("172.17.0.2:80", "127.0.0.1:40000", "SA")),
			flows: []string{
				"new local tcp 127.0.0.1:40000>172.17.0.2:80 = 172.17.0.1:40000>172.17.0.2:80 dev c1",
				"new local tcp 172.17.0.2:80>172.17.0.1:40000 = 172.17.0.2:80>127.0.0.1:40000 stack",
			},
		},
		{
			name: "an internal network reaches its own gateway", hook: fromContainer("i1"), in: tcp("172.19.0.2:40000", "172.19.0.1:53", "S"),
			want: stacked("br2 host", tcp("172.19.0.2:40000", "172.19.0.1:53", "S")), flows: []string{
				"new local tcp 172.19.0.1:53>172.19.0.2:40000 dev i1",
				"new local tcp 172.19.0.2:40000>172.19.0.1:53 stack",
			},
		},
		{
			name: "G-6 an internal network reaches no other address of the host", hook: fromContainer("i1"),
			in: tcp("172.19.0.2:40000", "198.51.100.1:53", "S"), want: dropped("internal"),
		},
		{name: "G-4 the host to no endpoint", hook: toBridge("br0"), in: syn.to("172.17.0.99:80"), want: passed("unknown_target")},
		{name: "G-12 an endpoint of another bridge", hook: toBridge("br1"), in: syn, want: passed("unknown_target")},
		{name: "the host's multicast", hook: toBridge("br0"), in: udp("172.17.0.1:5353", "224.0.0.251:5353"), want: passed("not_ours")},
		{name: "H-20 the kernel forwards from outside, native", hook: toBridge("br0"), in: syn.from("192.0.2.10:40000"), want: dropped("direct")},
		{
			name: "H-20 the kernel forwards from outside, over docker's rules", change: d.w.overRules, hook: toBridge("br0"),
			in: syn.from("192.0.2.10:40000"), want: passed("rules"),
		},
		{name: "H-20 the kernel forwards from another bridge, native", hook: toBridge("br0"), in: syn.from("172.18.0.2:40000"), want: dropped("direct")},
		{name: "G-4 hairpin of the bridge itself", hook: toBridge("br0"), in: syn.from("172.17.0.9:40000"), want: passed("not_ours")},
		{
			name: "what the kernel lets in over docker's rules is the kernel's to answer", change: d.w.overRules, hook: toBridge("br0"),
			in: udp("192.0.2.10:40000", "172.17.0.2:53"), want: passed("rules"), flows: []string{
				"new local udp 172.17.0.2:53>192.0.2.10:40000 stack kernel",
				"new local udp 192.0.2.10:40000>172.17.0.2:53 stack kernel",
			},
		},
		{
			name: "E-13 F-11 the answer to it is left to the kernel", change: d.w.overRules, hook: fromContainer("c1"),
			before: []sent{{toBridge("br0"), udp("192.0.2.10:40000", "172.17.0.2:53")}},
			in:     udp("172.17.0.2:53", "192.0.2.10:40000"), want: passed("rules"), flows: []string{
				"new local udp 172.17.0.2:53>192.0.2.10:40000 stack kernel",
				"new local udp 192.0.2.10:40000>172.17.0.2:53 stack kernel",
			},
		},
	})
}

// testStranger: an address on a bridge that no endpoint has, as the host meets it on the bridge.
func testStranger(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.9:40000", "192.0.2.10:80", "S")
	flows := []string{
		"new local tcp 172.17.0.9:40000>192.0.2.10:80 = 198.51.100.1:40000>192.0.2.10:80 neigh up0",
		"new wire tcp 192.0.2.10:80>198.51.100.1:40000 = 192.0.2.10:80>172.17.0.9:40000 neigh br0",
	}
	d.runCases(t, []packetCase{
		{name: "G-4 out", hook: fromBridge("br0"), in: syn, want: redirected("br0 out", syn.from("198.51.100.1:40000").withTTL(63)), flows: flows},
		{
			name: "G-4 the answer", before: []sent{{fromBridge("br0"), syn}}, hook: fromUplink("up0"), in: tcp("192.0.2.10:80", "198.51.100.1:40000", "SA"),
			want: redirected("br0 out", tcp("192.0.2.10:80", "172.17.0.9:40000", "SA").withTTL(63)), flows: flows,
		},
		{name: "over docker's rules", change: d.w.overRules, hook: fromBridge("br0"), in: syn, want: passed("rules")},
		{name: "to the host", hook: fromBridge("br0"), in: syn.to("172.17.0.1:22"), want: passed("host")},
		{name: "G-6 another bridge", hook: fromBridge("br0"), in: syn.to("172.18.0.77:22"), want: dropped("isolated")},
		{name: "G-6 out of an internal network", hook: fromBridge("br2"), in: syn.from("172.19.0.9:40000"), want: dropped("internal")},
		{name: "G-5 with an address of another subnet", hook: fromBridge("br0"), in: syn.from("10.1.2.3:40000"), want: passed("unknown_source")},
		{name: "G-5 with a container's address", hook: fromBridge("br0"), in: syn.from("172.17.0.2:40000"), want: passed("unknown_source")},
		{name: "a frame for somebody else on the bridge", hook: fromBridge("br0"), in: syn.macs(mac("02:00:00:00:17:09"), mac("02:00:00:00:17:03")), want: unseen()},
	})
}

// G-5: what comes up from a bridge with an address of the host itself is not carried, whether by dropping it or by leaving it to the stack,
// which takes no such source.
func testHostSource(t *testing.T, d *datapath) {
	for _, src := range []string{"172.17.0.1:40000", "198.51.100.1:40000", "127.0.0.1:40000"} {
		for _, dst := range []string{"192.0.2.10:80", "172.17.0.2:80", "203.0.113.1:22"} {
			for _, known := range []bool{false, true} {
				t.Run(fmt.Sprintf("G-5 %s > %s, the host's own flow is known: %v", src, dst, known), func(t *testing.T) {
					d.reset(t)
					if known {
						d.send(t, toBridge("br0"), tcp(src, dst, "S"))
					}
					before := d.flows(t)
					if r := d.send(t, fromBridge("br0"), tcp(src, dst, "R")); r.verdict == verdictRedirect {
						t.Errorf("verdict is %d", r.verdict)
					}
					d.expectFlows(t, before...)
				})
			}
		}
	}
}
