package packet

import (
	"encoding/binary"
	"testing"
)

// vxlan is a frame in VXLAN between two hosts (RFC 7348, section 5).
func vxlan(inner frame, from, to string, vni uint32) frame {
	header := binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, vni<<8)
	return udp(from+":49152", to+":8472").data(append(header, inner.bytes()...)).noChecksum()
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
		"new local tcp 172.17.0.2:80>10.200.2.5:50000 vxlan lan0",
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
				"new local tcp 172.17.0.2:80>10.200.2.5:50000 vxlan lan0",
				"new wire tcp 10.200.2.5:50000>172.17.0.2:80 peer c1",
			},
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
