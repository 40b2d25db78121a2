package packet

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// vxlan is a frame in VXLAN between two hosts (RFC 7348, section 5).
func vxlan(inner frame, from, to string, vni uint32) frame {
	header := binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, vni<<8)
	return udp(from+":49152", to+":8472").data(append(header, inner.bytes()...)).noChecksum()
}

// vxlanTo is a packet as this host sends it to another in VXLAN. It leaves with the link-layer header that the kernel writes then.
func vxlanTo(host string, vtep net.HardwareAddr, inner frame) frame {
	ours := mac("0e:eb:c6:33:64:01")
	f := vxlan(inner.macs(ours, vtep), "198.51.100.1", host, 1).macs(ours, vtep)
	f.fragment, f.outer = 0, true
	return f
}

// testVXLANOut: what a container sends to another host's.
func testVXLANOut(t *testing.T, d *datapath) {
	const far = "198.51.100.7"
	theirs := mac("0e:eb:c6:33:64:07")
	out := tcp("172.17.0.2:40000", "10.200.2.5:80", "S")
	wrapped := func(f frame, tos uint8) outcome {
		return redirected("br0 overlay", vxlanTo(far, theirs, f.withTTL(63)).put8(15, tos).refresh())
	}
	noWay := func(s *state.State) {
		d.w.network(s)
		key := bpf.PrefixKey{Prefixlen: 24, Addr: addr("10.200.2.0")}
		p := s.Peers[key]
		p.Addr = addr("192.0.2.97")
		s.Peers[key] = p
	}
	ipsec := func(s *state.State) {
		d.w.network(s)
		s.Overlay.Flags = bpf.DatapathOverlayFlagOVERLAY_KERNEL
	}
	flows := func(dev string) []string {
		return []string{"new local tcp 172.17.0.2:40000>10.200.2.5:80 vxlan " + dev, "new wire tcp 10.200.2.5:80>172.17.0.2:40000 peer c1"}
	}
	d.runCases(t, []packetCase{
		{
			name: "J-8 congestion stands outside too, and nothing else of its service", change: d.w.network,
			hook: fromContainer("c1"), in: out.tos(0xbb), want: wrapped(out.tos(0xbb), 3), flows: flows("up0"),
		},
		{
			name: "J-1 a large one", change: d.w.network,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: out.data(make([]byte, 1410)), want: wrapped(out.data(make([]byte, 1410)), 0), flows: flows("up0"),
		},
		{
			name: "M-2 with padding", change: d.w.network,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: out.pad(60), want: redirected("br0 overlay", vxlanTo(far, theirs, out.withTTL(63)).pad(60+50)), flows: flows("up0"),
		},
		{
			// The kernel knows of no packet of a test how its segments are cut.
			name: "D-5 segments that cannot be cut behind a header are the device's to cut", change: d.w.network,
			before: []sent{{fromContainer("c1"), out}},
			hook:   fromContainer("c1"), in: out.data(make([]byte, 2820)).gso(1410, 2),
			want:  redirected("br0 overlay", out.data(make([]byte, 2820)).withTTL(63).macs(mac("0e:eb:c6:33:64:01"), theirs).gso(1410, 2)),
			flows: flows("up0"),
		},
		{
			name: "J-7 without a way to the host it is the stack's to say so", change: noWay,
			hook: fromContainer("c1"), in: out, want: redirected("br0 overlay", out.withTTL(63).macs(mac("0e:eb:c6:33:64:01"), theirs)), flows: flows("lan0"),
		},
	})
	d.runCases(t, []packetCase{{
		name: "what the host has IPsec policies for is the kernel's to wrap", change: ipsec,
		hook: fromContainer("c1"), in: out, want: redirected("br0 overlay", out.withTTL(63).macs(mac("0e:eb:c6:33:64:01"), theirs)), flows: flows("lan0"),
	}})
	// RFC 7348, section 5: a flow's packets have one source port, so that they stay in order, and flows differ in it, so that they may be spread.
	t.Run("overlay D1 source ports", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.network)
		ports := map[uint16]bool{}
		for i := range 64 {
			f := udp(fmt.Sprintf("172.17.0.2:%d", 40000+i), "10.200.2.5:80").data(make([]byte, 64))
			own := map[uint16]bool{}
			for _, piece := range append(f.pieces(32), f, f) {
				own[binary.BigEndian.Uint16(d.send(t, fromContainer("c1"), piece).data[34:])] = true
			}
			if len(own) != 1 {
				t.Errorf("flow %d is sent from ports %v", i, own)
			}
			for p := range own {
				ports[p] = true
			}
		}
		if len(ports) < 60 {
			t.Errorf("64 flows are sent from %d ports: %v", len(ports), ports)
		}
	})
}

// testVXLAN: what comes in VXLAN by an uplink. What is for a container of ours, and from one of the host that sent it, goes there straight;
// everything else is the kernel's device's to judge, as it came.
func testVXLAN(t *testing.T, d *datapath) {
	const own, far = "198.51.100.1", "198.51.100.7"
	ours, theirs := mac("0e:eb:c6:33:64:01"), mac("0e:eb:c6:33:64:07")
	in := tcp("10.200.2.5:50000", "172.17.0.2:80", "S").macs(theirs, ours)
	opened := func(f frame) outcome { return redirected("br0 overlay", f.withTTL(63).macs(d.w.gateway("c1"))) }
	flows := []string{
		"new wire tcp 10.200.2.5:50000>172.17.0.2:80 peer c1",
		"new local tcp 172.17.0.2:80>10.200.2.5:50000 vxlan up0",
	}
	cases := []packetCase{
		{
			name: "J-1 overlay D1 out of VXLAN into the container", change: d.w.network,
			hook: fromUplink("up0"), in: vxlan(in, far, own, 1), want: opened(in), flows: flows,
		},
		{
			name: "J-1 an answer", change: d.w.network,
			before: []sent{{fromContainer("c1"), tcp("172.17.0.2:80", "10.200.2.5:50000", "S")}},
			hook:   fromUplink("up0"), in: vxlan(tcp("10.200.2.5:50000", "172.17.0.2:80", "SA").macs(theirs, ours), far, own, 1),
			want: opened(tcp("10.200.2.5:50000", "172.17.0.2:80", "SA")),
			flows: []string{
				"new local tcp 172.17.0.2:80>10.200.2.5:50000 vxlan up0",
				"new wire tcp 10.200.2.5:50000>172.17.0.2:80 peer c1",
			},
		},
		{
			name: "J-8 marked for congestion, and so is what is inside", change: d.w.network,
			hook: fromUplink("up0"), in: vxlan(in.tos(3), far, own, 1).put8(15, 3).refresh(), want: opened(in.tos(3)), flows: flows,
		},
		{
			name: "H-9 to a loopback address", change: d.w.network,
			hook: fromUplink("up0"), in: vxlan(udp("10.200.2.5:50000", "127.0.0.1:80").macs(theirs, ours), far, own, 1), want: passed("not_ours"),
		},
	}
	marked := vxlan(in, far, own, 1).put8(15, 3).refresh()
	for name, f := range map[string]frame{
		"J-5 from a host that has another subnet": vxlan(in, "198.51.100.9", own, 1),
		"J-5 from a container of nobody":          vxlan(tcp("10.200.9.5:50000", "172.17.0.2:80", "S").macs(theirs, ours), far, own, 1),
		"J-5 from outside the network":            vxlan(tcp("192.0.2.5:50000", "172.17.0.2:80", "S").macs(theirs, ours), far, own, 1),
		"overlay D8 another network's number":     vxlan(in, far, own, 2),
		"for another tunnel endpoint":             vxlan(in.macs(theirs, theirs), far, own, 1),
		"for an address that no container has":    vxlan(in.to("172.17.0.99:80"), far, own, 1),
		"for the host":                            vxlan(in.to("172.17.0.1:80"), far, own, 1),
		"with a sum over everything":              udp(far+":49152", own+":8472").data(vxlan(in, far, own, 1).payload),
		"J-8 marked for congestion":               marked,
		"M-1 a length that is not the packet's":   vxlan(in, far, own, 1).put16(16, 200).refresh(),
		"M-1 cut off":                             udp(far+":49152", own+":8472").data(vxlan(in, far, own, 1).payload[:30]).noChecksum(),
		"M-1 no IPv4 inside":                      vxlan(in.put8(12, 0x86).put8(13, 0xdd), far, own, 1),
		"J-1 by another port":                     udp(far+":49152", own+":8473").data(vxlan(in, far, own, 1).payload).noChecksum(),
		"from a host that sends without a tunnel": vxlan(tcp("10.200.3.5:50000", "172.17.0.2:80", "S").macs(theirs, ours), "198.51.100.8", own, 1),
	} {
		want := passed("not_ours")
		if name == "M-1 a length that is not the packet's" {
			want = dropped("truncated")
		}
		cases = append(cases, packetCase{name: name, change: d.w.network, hook: fromUplink("up0"), in: f, want: want})
	}
	d.runCases(t, cases)
	// What our own program took out is the stack's where it has to answer: it comes in by the device, and is not looked at again.
	t.Run("J-1 a packet whose time is over", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.network)
		d.send(t, fromUplink("up0"), vxlan(in, far, own, 1))
		over := tcp("10.200.2.5:50000", "172.17.0.2:80", "A").withTTL(1).macs(theirs, ours)
		r := d.send(t, fromUplink("up0"), vxlan(over, far, own, 1))
		taken := r.skb.CB[cbMarkOut]
		if r.verdict != verdictRedirect || taken == 0 {
			t.Fatalf("verdict %d, mark %#x", r.verdict, taken)
		}
		r = d.marked(t, fromOverlay("lan0"), over.macs(mac("02:00:00:00:00:fe"), mac("02:00:00:00:00:01")), taken)
		if r.verdict != verdictNext || r.skb.CB[cbTypeOut] != 0 || r.skb.CB[cbMarkOut] != 0 {
			t.Errorf("at the device: verdict %d, type %d, mark %#x", r.verdict, r.skb.CB[cbTypeOut], r.skb.CB[cbMarkOut])
		}
	})
}
