package e2e

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// G-3: what is not IPv4 between two machines passes as the bridge has it. The same frames are sent before and after attaching; the same ones
// must arrive, unchanged.
func TestOtherFrames(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		a, b := s.Host.Run(t, "a"), s.Host.Run(t, "b")
		arrived := func(when string) map[string]bool {
			frames := foreignFrames(t, a, b, when)
			capture := b.NS.Capture(t, "eth0")
			for _, f := range frames {
				a.NS.Inject(t, "eth0", f.frame)
			}
			// Frames keep their order: when the last is there, all are that will come.
			last := frames[len(frames)-1]
			capture.Find(t, last.name, carrying(last.name+when))
			got := map[string]bool{}
			for _, f := range frames {
				got[f.name] = false
				for _, p := range capture.All(carrying(f.name + when)) {
					if p.Sent {
						continue
					}
					whole := p.Data
					if p.VLAN != 0 { // the kernel keeps the tag beside the frame
						whole = append(append(append([]byte(nil), p.Data[:12]...), 0x81, 0, byte(p.VLAN>>8), byte(p.VLAN)), p.Data[12:]...)
					}
					if string(whole) != string(f.frame) {
						t.Errorf("%s has changed:\n sent %x\n came %x", f.name, f.frame, whole)
					}
					got[f.name] = true
				}
			}
			return got
		}
		stock := arrived(" before")
		if n := len(slices.DeleteFunc(slices.Collect(maps.Values(stock)), func(ok bool) bool { return !ok })); n < 10 {
			t.Errorf("only %d frames pass the bridge without the product: %v", n, stock)
		}
		s.Attach(t, docker0()...)
		s.await(t, a)
		s.await(t, b)
		now := arrived(" after")
		for name := range stock {
			eq(t, name+" arrives", now[name], stock[name])
		}
		// And by the containers' own means.
		a.Exec(t, "/bin/arping", "-c", "1", "-w", "2", b.IP.String())
	})
}

// foreign is a frame that carries its name.
type foreign struct {
	name  string
	frame []byte
}

// foreignFrames builds frames from a, for b or for all, each with its name and when it is sent in it.
func foreignFrames(t *testing.T, a, b *lab.Container, when string) []foreign {
	t.Helper()
	src, dst := a.NS.Device(t, "eth0").HardwareAddr, b.NS.Device(t, "eth0").HardwareAddr
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	eth := func(to net.HardwareAddr, kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: src, DstMAC: to, EthernetType: kind}
	}
	arp := func(op uint16) *layers.ARP {
		return &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: src, SourceProtAddress: a.IP.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: b.IP.AsSlice(),
		}
	}
	v4 := func(from, to net.IP, proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 1, Protocol: proto, SrcIP: from, DstIP: to}
	}
	v6 := func(to string) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP(to)}
	}
	udp := func(from, to uint16) *layers.UDP {
		return &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
	}
	ip4 := layers.EthernetTypeIPv4
	build := func(name string, parts ...gopacket.SerializableLayer) foreign {
		for i, part := range parts {
			if udp, ok := part.(*layers.UDP); ok {
				if err := udp.SetNetworkLayerForChecksum(parts[i-1].(gopacket.NetworkLayer)); err != nil {
					t.Fatal(err)
				}
			}
		}
		frame := lab.Frame(t, append(parts, gopacket.Payload(name+when))...)
		// The bridge cuts off what pads an IP packet.
		return foreign{name, frame[:strings.Index(string(frame), name+when)+len(name+when)]}
	}
	raw := func(name string, to net.HardwareAddr, kind uint16) foreign {
		head := append(append(append([]byte(nil), to...), src...), byte(kind>>8), byte(kind))
		if kind == 0x8100 {
			head = append(head, 0, 42, 0x88, 0xb5)
		}
		return foreign{name, append(head, name+when...)}
	}
	return []foreign{
		build("ARP request", eth(all, layers.EthernetTypeARP), arp(1)),
		build("ARP reply", eth(dst, layers.EthernetTypeARP), arp(2)),
		build("DHCP discover", eth(all, ip4), v4(net.IPv4zero, net.IPv4bcast, layers.IPProtocolUDP), udp(68, 67)),
		build("subnet broadcast", eth(all, ip4), v4(a.IP.AsSlice(), net.IPv4(172, 17, 255, 255), layers.IPProtocolUDP), udp(9, 9)),
		build("multicast", eth(net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, ip4), v4(a.IP.AsSlice(), net.IPv4(224, 0, 0, 251), layers.IPProtocolUDP),
			udp(5353, 5353)),
		build("IGMP report", eth(net.HardwareAddr{1, 0, 0x5e, 0, 0, 0x16}, ip4), v4(a.IP.AsSlice(), net.IPv4(224, 0, 0, 22), layers.IPProtocolIGMP)),
		build("IPv6 unicast", eth(dst, layers.EthernetTypeIPv6), v6("fe80::2")),
		build("IPv6 neighbour discovery", eth(net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 2}, layers.EthernetTypeIPv6), v6("ff02::1:ff00:2")),
		build("IPv6 all nodes", eth(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, layers.EthernetTypeIPv6), v6("ff02::1")),
		raw("LLDP", net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc),
		raw("MPLS", dst, 0x8847),
		raw("802.1Q", dst, 0x8100),
		raw("local experiment", dst, 0x88b5),
		raw("the last", all, 0x88b5),
	}
}
