package parity

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// bridgeChecks are about what a bridge carries, and who may say he is whom.
func bridgeChecks() (list []check) {
	list = append(list, one("ARP for a neighbour, and for nobody", func(t *testing.T, s *site) string {
		ask := func(ip string) string {
			if _, err := s.TryDocker("exec", s.a.ID, "/bin/arping", "-c", "1", "-w", "2", ip); err != nil {
				return "silence"
			}
			return "answered"
		}
		return ask(s.b.IP.String()) + "; " + ask("172.17.99.99")
	})...)
	for _, c := range []struct{ name, ip string }{
		{"the bridge's broadcast address", "172.17.255.255"}, {"the limited broadcast address", "255.255.255.255"}, {"a multicast address", "239.1.2.3"},
		{"the uplink's broadcast address", "192.0.2.255"},
	} {
		list = append(list, one("a datagram to "+c.name, func(t *testing.T, s *site) string {
			neighbour, wire := s.b.NS.Capture(t, "eth0"), s.Router.Capture(t, "r0")
			text := fmt.Sprintf("to all %d", s.port())
			conn := s.a.NS.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
			if _, err := conn.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(lab.At(c.ip, 5353))); err != nil {
				return reason(err)
			}
			out := "to the neighbour: " + s.arrival(neighbour, carrying(text))
			if len(wire.All(carrying(text))) > 0 {
				return out + "; leaves by the uplink"
			}
			return out
		})...)
	}
	frame := func(name string, build func(t *testing.T, s *site, text string) []byte) {
		list = append(list, one(name+" to a neighbour", func(t *testing.T, s *site) string {
			inside := s.b.NS.Capture(t, "eth0")
			text := fmt.Sprintf("frame %d", s.port())
			s.a.NS.Inject(t, "eth0", build(t, s, text))
			if _, ok := until(inside, carrying(text)); !ok {
				return "does not arrive"
			}
			return "arrives"
		})...)
	}
	macs := func(t *testing.T, s *site) (a, b net.HardwareAddr) {
		return s.a.NS.Device(t, "eth0").HardwareAddr, s.b.NS.Device(t, "eth0").HardwareAddr
	}
	frame("a frame of an unknown protocol", func(t *testing.T, s *site, text string) []byte {
		a, b := macs(t, s)
		return lab.Frame(t, &layers.Ethernet{SrcMAC: a, DstMAC: b, EthernetType: 0x88b5}, gopacket.Payload(text))
	})
	frame("a frame with a VLAN tag", func(t *testing.T, s *site, text string) []byte {
		a, b := macs(t, s)
		return lab.Frame(t, &layers.Ethernet{SrcMAC: a, DstMAC: b, EthernetType: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 42, Type: 0x88b5}, gopacket.Payload(text))
	})
	frame("a frame to a link-layer address that nobody has", func(t *testing.T, s *site, text string) []byte {
		a, _ := macs(t, s)
		return lab.Frame(t, &layers.Ethernet{SrcMAC: a, DstMAC: net.HardwareAddr{2, 9, 9, 9, 9, 9}, EthernetType: 0x88b5}, gopacket.Payload(text))
	})
	frame("an IPv6 packet", func(t *testing.T, s *site, text string) []byte {
		a, b := macs(t, s)
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("fe80::2")}
		udp := &layers.UDP{SrcPort: 9, DstPort: 9}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return lab.Frame(t, &layers.Ethernet{SrcMAC: a, DstMAC: b, EthernetType: layers.EthernetTypeIPv6}, ip, udp, gopacket.Payload(text))
	})
	list = append(list, one("with a neighbour's address as its own, outwards", func(t *testing.T, s *site) string { return s.spoof(t, s.b.IP) })...)
	list = append(list, one("with an address of no network of the host's, outwards", func(t *testing.T, s *site) string {
		return s.spoof(t, netip.MustParseAddr("10.9.9.9"))
	})...)
	list = append(list, one("with an unused address of its network, outwards", func(t *testing.T, s *site) string {
		return s.spoof(t, netip.MustParseAddr("172.17.88.88"))
	})...)
	list = append(list, both("a container's second address", func(t *testing.T, s *site, network string) string {
		c := s.Run(t, "extra")
		ip := map[string]string{"tcp": "172.17.70.1", "udp": "172.17.70.2"}[network]
		s.name(ip, "its second")
		c.NS.IP(t, "addr add "+ip+"/16 dev eth0")
		c.IPs["its second"] = netip.MustParseAddr(ip)
		s.await(t, c, "its second") // nobody sends with an address that ebpfnet does not know for his
		s.name(c.IP.String(), "extra")
		return fmt.Sprintf("from a neighbour: %s; to a neighbour: %s; outwards: %s", s.ask(s.b.NS, network, lab.At(ip, 80)),
			s.ask(c.NS, network, s.b.At(80), lab.From(lab.At(ip, s.port()))), s.ask(c.NS, network, lab.At(lab.RemoteIP, farPort), lab.From(lab.At(ip, s.port()))))
	})...)
	list = append(list, both("a machine of its own inside a container (macvlan)", func(t *testing.T, s *site, network string) string {
		c := s.Run(t, "outer")
		ip := map[string]string{"tcp": "172.17.71.1", "udp": "172.17.71.2"}[network]
		s.name(ip, "nested")
		n := s.Machine(t, "nested")
		c.NS.IP(t, "link add mv link eth0 type macvlan mode bridge")
		c.NS.IP(t, "link set mv netns "+n.Name)
		n.IP(t, "addr add "+ip+"/16 dev mv")
		n.IP(t, "link set mv up")
		n.IP(t, "route add default via "+lab.GatewayIP)
		n.Serve(t, "nested", ":80")
		return fmt.Sprintf("from a neighbour: %s; from the host: %s; to a neighbour: %s; outwards: %s; to a published port: %s",
			s.ask(s.b.NS, network, lab.At(ip, 80)), s.ask(s.NS, network, lab.At(ip, 80)), s.ask(n, network, s.b.At(80)),
			s.ask(n, network, lab.At(lab.RemoteIP, farPort)), s.ask(n, network, lab.At(lab.HostIP, 8080)))
	})...)
	return list
}
