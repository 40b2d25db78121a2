package trace

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Somebody else's decoder finds whole headers in what is built, and right checksums.
func TestFrame(t *testing.T) {
	for _, c := range []struct {
		name  string
		proto uint8
		size  int
		layer gopacket.LayerType
	}{
		{"tcp", 6, 0, layers.LayerTypeTCP},
		{"tcp, an odd length", 6, 101, layers.LayerTypeTCP},
		{"udp", 17, 1000, layers.LayerTypeUDP},
		{"sctp", 132, 0, layers.LayerTypeSCTP},
		{"icmp", 1, 7, layers.LayerTypeICMPv4},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := packet{
				srcMAC: strangerMAC(), dstMAC: strangerMAC(), src: netip.MustParseAddr("172.17.0.2"), dst: netip.MustParseAddr("192.0.2.1"),
				sport: 40000, dport: 80, proto: c.proto, ttl: 9, size: c.size,
			}
			f := p.frame()
			d := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
			ip, ok := d.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if !ok || d.ErrorLayer() != nil {
				t.Fatalf("it is no packet: %v", d)
			}
			if ip.SrcIP.String() != "172.17.0.2" || ip.DstIP.String() != "192.0.2.1" || ip.TTL != 9 || int(ip.Length) != len(f)-14 {
				t.Errorf("IP header: %+v", ip)
			}
			if d.Layer(c.layer) == nil {
				t.Fatalf("no %v in %v", c.layer, d)
			}
			// What it is summed up to is 0 with the checksum in its place.
			if got := checksum(f[14:34]); got != 0 {
				t.Errorf("IP checksum is off by %#x", got)
			}
			switch c.proto {
			case 6, 17:
				pseudo := append(append(p.src.AsSlice(), p.dst.AsSlice()...), 0, c.proto, byte((len(f)-34)>>8), byte(len(f)-34))
				if got := checksum(append(pseudo, f[34:]...)); got != 0 {
					t.Errorf("checksum is off by %#x", got)
				}
			case 1:
				if got := checksum(f[34:]); got != 0 {
					t.Errorf("checksum is off by %#x", got)
				}
			}
		})
	}
}
