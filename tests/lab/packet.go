package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packet is a frame as a device saw it. Layers that it does not have are nil.
type Packet struct {
	At      time.Time
	Sent    bool   // left by the device; otherwise it came in
	ToUs    bool   // the link layer addressed it to this device (PACKET_HOST)
	Partial bool   // its checksum is left to hardware
	VLAN    uint16 // tag, 0 for none
	Data    []byte

	Eth  *layers.Ethernet
	ARP  *layers.ARP
	IP   *layers.IPv4
	IP6  *layers.IPv6
	TCP  *layers.TCP
	UDP  *layers.UDP
	ICMP *layers.ICMPv4
}

func decode(p Packet) Packet {
	d := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	p.Eth, _ = d.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	p.ARP, _ = d.Layer(layers.LayerTypeARP).(*layers.ARP)
	p.IP, _ = d.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	p.IP6, _ = d.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	p.TCP, _ = d.Layer(layers.LayerTypeTCP).(*layers.TCP)
	p.UDP, _ = d.Layer(layers.LayerTypeUDP).(*layers.UDP)
	p.ICMP, _ = d.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return p
}

// Decode reads a frame that was found inside of another.
func Decode(frame []byte) Packet { return decode(Packet{Data: frame}) }

// Source is the packet's address and port; the port is 0 where it has none.
func (p Packet) Source() netip.AddrPort {
	return p.end(func() []byte { return p.IP.SrcIP }, func() uint16 {
		if p.TCP != nil {
			return uint16(p.TCP.SrcPort)
		}
		return uint16(p.UDP.SrcPort)
	})
}

// Destination is the packet's address and port; the port is 0 where it has none.
func (p Packet) Destination() netip.AddrPort {
	return p.end(func() []byte { return p.IP.DstIP }, func() uint16 {
		if p.TCP != nil {
			return uint16(p.TCP.DstPort)
		}
		return uint16(p.UDP.DstPort)
	})
}

func (p Packet) end(addr func() []byte, port func() uint16) netip.AddrPort {
	if p.IP == nil {
		return netip.AddrPort{}
	}
	ip, _ := netip.AddrFromSlice(addr())
	if p.TCP == nil && p.UDP == nil {
		return netip.AddrPortFrom(ip.Unmap(), 0)
	}
	return netip.AddrPortFrom(ip.Unmap(), port())
}

// Payload is what TCP, UDP or ICMP carries.
func (p Packet) Payload() []byte {
	switch {
	case p.TCP != nil:
		return p.TCP.Payload
	case p.UDP != nil:
		return p.UDP.Payload
	case p.ICMP != nil:
		return p.ICMP.Payload
	}
	return nil
}

// Checksums is nil where the IPv4 header's checksum and the transport's are right. Where the transport's was left to hardware, it must hold
// the sum of the pseudo-header that hardware starts from.
func (p Packet) Checksums() error {
	if p.IP == nil {
		return fmt.Errorf("not an IPv4 packet")
	}
	ip := p.Data[14:]
	header := int(p.IP.IHL) * 4
	if len(ip) < int(p.IP.Length) || header > int(p.IP.Length) {
		return fmt.Errorf("%d bytes are captured of %d", len(ip), p.IP.Length)
	}
	if got := fold(sum(ip[:header], 0)); got != 0xffff {
		return fmt.Errorf("header checksum is off by %#04x", ^got)
	}
	body := ip[header:p.IP.Length]
	pseudo := sum(ip[12:20], uint32(p.IP.Protocol)+uint32(len(body)))
	var field uint16
	switch {
	case p.TCP != nil:
		field = p.TCP.Checksum
	case p.UDP != nil:
		if field = p.UDP.Checksum; field == 0 && !p.Partial { // none was sent (RFC 768)
			return nil
		}
	case p.ICMP != nil:
		pseudo = 0
	default:
		return nil
	}
	if p.Partial {
		if want := fold(pseudo); field != want {
			return fmt.Errorf("%s checksum, left to hardware, is %#04x instead of %#04x", p.IP.Protocol, field, want)
		}
		return nil
	}
	if got := fold(sum(body, pseudo)); got != 0xffff {
		return fmt.Errorf("%s checksum is off by %#04x", p.IP.Protocol, ^got)
	}
	return nil
}

func sum(b []byte, start uint32) uint32 {
	s := uint64(start)
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	for s>>32 != 0 {
		s = s&0xffffffff + s>>32
	}
	return uint32(s)
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func (p Packet) String() string {
	var b strings.Builder
	dir := "in"
	if p.Sent {
		dir = "out"
	}
	fmt.Fprintf(&b, "%s %-3s", p.At.Format("05.000000"), dir)
	if p.Eth != nil {
		fmt.Fprintf(&b, " %s > %s", p.Eth.SrcMAC, p.Eth.DstMAC)
	}
	switch {
	case p.IP != nil:
		fmt.Fprintf(&b, " %s %s > %s ttl %d id %d len %d", p.IP.Protocol, p.Source(), p.Destination(), p.IP.TTL, p.IP.Id, p.IP.Length)
		if p.TCP != nil {
			for _, f := range []struct {
				set  bool
				name string
			}{{p.TCP.SYN, "S"}, {p.TCP.FIN, "F"}, {p.TCP.RST, "R"}, {p.TCP.ACK, "."}, {p.TCP.PSH, "P"}} {
				if f.set {
					b.WriteString(" " + f.name)
				}
			}
			fmt.Fprintf(&b, " seq %d ack %d", p.TCP.Seq, p.TCP.Ack)
		}
		if p.ICMP != nil {
			fmt.Fprintf(&b, " %s id %d seq %d", p.ICMP.TypeCode, p.ICMP.Id, p.ICMP.Seq)
		}
		if err := p.Checksums(); err != nil {
			fmt.Fprintf(&b, " (%v)", err)
		}
	case p.ARP != nil:
		fmt.Fprintf(&b, " ARP op %d %v > %v", p.ARP.Operation, p.ARP.SourceProtAddress, p.ARP.DstProtAddress)
	case p.Eth != nil:
		fmt.Fprintf(&b, " %s", p.Eth.EthernetType)
	}
	return b.String()
}
