package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// network puts the host into one of several hosts: 10.200.0.0/16, of which 10.200.1.0/24 is its
// own (br0 stands for it, whatever its addresses), 10.200.2.0/24 is behind the tunnel to 198.51.100.7, and
// 10.200.3.0/24 behind 198.51.100.8 on the same segment. The tunnel's device is lan0.
func (w *world) network(s *state.State) {
	prefix := func(at string, bits uint32) bpf.PrefixKey { return bpf.PrefixKey{Prefixlen: bits, Addr: addr(at)} }
	s.Peers = map[bpf.PrefixKey]bpf.Peer{
		prefix("10.200.0.0", 16): {},
		prefix("10.200.2.0", 24): {Addr: addr("198.51.100.7"), Kind: bpf.DatapathPeerKindPEER_VXLAN, Mac: [6]uint8(mac("0e:eb:c6:33:64:07"))},
		prefix("10.200.3.0", 24): {Addr: addr("198.51.100.8"), Kind: bpf.DatapathPeerKindPEER_DIRECT},
	}
	s.PeerHosts = map[bpf.AddrKey]bpf.PeerHost{addrKey("198.51.100.7"): {}, addrKey("198.51.100.8"): {Direct: 1}}
	w.setBridge(s, "br0", bpf.DatapathBridgeFlagBRIDGE_MEMBER, 0)
	s.Overlay = bpf.Overlay{Addr: addr("10.200.1.0"), Ifindex: w.devices["lan0"].index, Vni: 1, Local: addr("198.51.100.1"), Mtu: 1450, Mac: [6]uint8(mac("0e:eb:c6:33:64:01")),
		Port: bpf.Port(8472), Kind: bpf.DatapathPeerKindPEER_VXLAN}
}

// testOverlay: containers of other hosts.
func testOverlay(t *testing.T, d *datapath) {
	out := func(to string) frame { return tcp("172.17.0.2:40000", to, "S") }
	tunnelled := func(f frame) frame { return vxlanTo("198.51.100.7", mac("0e:eb:c6:33:64:07"), f.withTTL(63)) }
	toVXLAN := []string{
		"new local tcp 172.17.0.2:40000>10.200.2.5:80 vxlan up0",
		"new wire tcp 10.200.2.5:80>172.17.0.2:40000 peer c1",
	}
	d.runCases(t, []packetCase{
		{
			name: "J-1 overlay D1 into the tunnel, as it is", change: d.w.network,
			hook: fromContainer("c1"), in: out("10.200.2.5:80"),
			want:  redirected("br0 overlay", tunnelled(out("10.200.2.5:80"))),
			flows: toVXLAN,
		},
		{
			name: "second packet", change: d.w.network,
			before: []sent{{fromContainer("c1"), out("10.200.2.5:80")}},
			hook:   fromContainer("c1"), in: out("10.200.2.5:80"),
			want:  redirected("br0 overlay", tunnelled(out("10.200.2.5:80"))),
			flows: toVXLAN,
		},
		{
			name: "overlay D2 to a host on the segment, without a tunnel", change: d.w.network,
			hook: fromContainer("c1"), in: out("10.200.3.5:80"),
			want: redirected("br0 overlay", out("10.200.3.5:80").withTTL(63)),
			flows: []string{
				"new local tcp 172.17.0.2:40000>10.200.3.5:80 neigh up0",
				"new wire tcp 10.200.3.5:80>172.17.0.2:40000 peer c1",
			},
		},
		{
			name: "from a bridge that the other hosts do not know", change: d.w.network,
			hook: fromContainer("d1"), in: tcp("172.18.0.2:40000", "10.200.2.5:80", "S"),
			want: redirected("br1 overlay", tunnelled(tcp("10.200.1.0:40000", "10.200.2.5:80", "S"))),
			flows: []string{
				"new local tcp 172.18.0.2:40000>10.200.2.5:80 = 10.200.1.0:40000>10.200.2.5:80 vxlan up0",
				"new wire tcp 10.200.2.5:80>10.200.1.0:40000 = 10.200.2.5:80>172.18.0.2:40000 peer d1",
			},
		},
		{
			name: "J-7 to an address of the network that nobody has", change: d.w.network,
			hook: fromContainer("c1"), in: out("10.200.9.5:80"),
			want: dropped("no_peer"),
		},
		{
			name: "J-7 over Docker's rules too", change: func(s *state.State) { d.w.network(s); d.w.overRules(s) },
			hook: fromContainer("c1"), in: out("10.200.9.5:80"),
			want: dropped("no_peer"),
		},
		{
			name: "J-2 too big", change: d.w.network,
			before: []sent{{fromContainer("c1"), out("10.200.2.5:80")}},
			hook:   fromContainer("c1"), in: tcp("172.17.0.2:40000", "10.200.2.5:80", "A").data(make([]byte, 1420)),
			want: passed("mtu"), flows: toVXLAN,
		},
		{
			name: "J-5 out of the tunnel from nobody", change: d.w.network,
			hook: fromOverlay("lan0"), in: tcp("10.200.2.5:80", "172.17.0.2:40000", "S"),
			want: dropped("not_peer"),
		},
		{
			name: "overlay D8 without a tunnel nothing comes out of one",
			hook: fromOverlay("lan0"), in: tcp("10.200.2.5:80", "172.17.0.2:40000", "S"),
			want: dropped("not_peer"),
		},
		{
			name: "J-1 from a host on the segment", change: d.w.network,
			hook: fromUplink("up0"), in: tcp("10.200.3.5:50000", "172.17.0.2:80", "S"),
			want: redirected("br0 overlay", tcp("10.200.3.5:50000", "172.17.0.2:80", "S").withTTL(63).macs(d.w.gateway("c1"))),
			flows: []string{
				"new wire tcp 10.200.3.5:50000>172.17.0.2:80 peer c1",
				"new local tcp 172.17.0.2:80>10.200.3.5:50000 neigh up0",
			},
		},
		{
			name: "overlay D6 from such a host itself", change: d.w.network,
			hook: fromUplink("up0"), in: udp("198.51.100.8:50000", "172.17.0.2:80"),
			want: redirected("br0 overlay", udp("198.51.100.8:50000", "172.17.0.2:80").withTTL(63).macs(d.w.gateway("c1"))),
			flows: []string{
				"new wire udp 198.51.100.8:50000>172.17.0.2:80 peer c1",
				"new local udp 172.17.0.2:80>198.51.100.8:50000 neigh up0",
			},
		},
		{
			name: "J-5 by the wrong uplink", change: d.w.network,
			hook: fromUplink("up1"), in: tcp("10.200.3.5:50000", "172.17.0.2:80", "S"),
			want: dropped("direct"),
		},
		{
			name: "J-5 without the tunnel that the host has", change: d.w.network,
			hook: fromUplink("up0"), in: tcp("10.200.2.5:50000", "172.17.0.2:80", "S"),
			want: dropped("direct"),
		},
		{
			name: "from the stack into the tunnel", change: d.w.network,
			hook: toOverlay("lan0"), in: udp("10.8.0.1:5000", "10.200.2.5:80"),
			want: outcome{verdict: verdictNext, out: framed(udp("10.8.0.1:5000", "10.200.2.5:80").macs(mac("0e:eb:c6:33:64:01"), mac("0e:eb:c6:33:64:07")))},
		},
		{
			name: "J-7 from the stack to nobody", change: d.w.network,
			hook: toOverlay("lan0"), in: udp("10.8.0.1:5000", "10.200.9.5:80"),
			want: dropped("no_peer"),
		},
	})
	// H-22: one client, from one port, by the published port and then straight to the container's own: each gets its own answers.
	t.Run("H-22 by a published port and straight, from one port", func(t *testing.T) {
		for _, straightFirst := range []bool{false, true} {
			d.reset(t)
			d.change(t, func(s *state.State) { d.w.network(s); publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80") })
			published, straight := tcp("10.200.3.5:4321", "198.51.100.1:8080", "S"), tcp("10.200.3.5:4321", "172.17.0.2:80", "S")
			order := []frame{published, straight}
			if straightFirst {
				order = []frame{straight, published}
			}
			var seen []string
			for _, f := range order {
				r := d.send(t, fromUplink("up0"), f)
				src, dst := r.addresses()
				if r.verdict != verdictRedirect || dst != "172.17.0.2:80" {
					t.Fatalf("straight first %v: verdict %d, to %s", straightFirst, r.verdict, dst)
				}
				seen = append(seen, src)
			}
			if seen[0] != "10.200.3.5:4321" || seen[1] == seen[0] {
				t.Fatalf("straight first %v: the container sees %q", straightFirst, seen)
			}
			for i, f := range order {
				r := d.send(t, fromContainer("c1"), tcp("172.17.0.2:80", seen[i], "SA"))
				if src, dst := r.addresses(); r.verdict != verdictRedirect || src != f.dst || dst != f.src {
					t.Errorf("straight first %v: the answer to %s leaves from %s to %s", straightFirst, f.dst, src, dst)
				}
			}
		}
	})
	// B-5: what dials a container straight is answered from the container's own address.
	t.Run("B-5 an echo straight to a container", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.network)
		in := echo("10.200.3.5", "172.17.0.2", 7)
		d.expect(t, fromUplink("up0"), in, redirected("br0 overlay", in.withTTL(63).macs(d.w.gateway("c1"))))
		out := echoReply("172.17.0.2", "10.200.3.5", 7)
		d.expect(t, fromContainer("c1"), out, redirected("br0 overlay", out.withTTL(63)))
	})
	// J-7: a peer that moves takes its flows along; one that goes takes them with it, and nothing is masqueraded instead.
	t.Run("J-7 the peer moves, then goes", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.network)
		d.send(t, fromContainer("c1"), out("10.200.2.5:80"))
		d.change(t, func(s *state.State) {
			d.w.network(s)
			key := bpf.PrefixKey{Prefixlen: 24, Addr: addr("10.200.2.0")}
			p := s.Peers[key]
			p.Addr, p.Mac = addr("198.51.100.9"), [6]uint8(mac("0e:eb:c6:33:64:09"))
			s.Peers[key] = p
		})
		d.expect(t, fromContainer("c1"), out("10.200.2.5:80"),
			redirected("br0 overlay", vxlanTo("198.51.100.9", mac("0e:eb:c6:33:64:09"), out("10.200.2.5:80").withTTL(63))))
		d.expectFlows(t, toVXLAN...)
		d.change(t, func(s *state.State) {
			d.w.network(s)
			delete(s.Peers, bpf.PrefixKey{Prefixlen: 24, Addr: addr("10.200.2.0")})
		})
		d.expect(t, fromContainer("c1"), out("10.200.2.5:80"), dropped("no_peer"))
		d.expectFlows(t)
	})
	t.Run("J-7 what was the outside becomes a part of the network", func(t *testing.T) {
		d.reset(t)
		d.send(t, fromContainer("c1"), out("10.200.9.5:80"))
		d.change(t, d.w.network)
		d.expect(t, fromContainer("c1"), out("10.200.9.5:80"), dropped("no_peer"))
		d.expectFlows(t)
	})
}

func fromOverlay(dev string) hook { return hook{"from_overlay", dev} }
func toOverlay(dev string) hook   { return hook{"to_overlay", dev} }

func framed(f frame) *frame { return &f }
