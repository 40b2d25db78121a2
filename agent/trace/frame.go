package trace

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy"
)

const protoICMP = 1

// packet is what is tried.
type packet struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.Addr
	sport, dport   uint16 // sport is an echo request's id
	proto          uint8
	ttl            uint8
	size           int // of the payload
}

// key is its tuple, in a zone, as the flow tables have it.
func (p *packet) key(zone bpf.Zone) bpf.FlowKey {
	k := bpf.FlowKey{Saddr: bpf.Addr(p.src), Daddr: bpf.Addr(p.dst), Proto: p.proto, Zone: zone}
	switch p.proto {
	case policy.ProtoTCP, policy.ProtoUDP, policy.ProtoSCTP:
		k.Sport, k.Dport = bpf.Port(p.sport), bpf.Port(p.dport)
	case protoICMP:
		k.Sport = bpf.Port(p.sport)
	}
	return k
}

// frame builds it: an Ethernet frame (RFC 894) with whole headers and right checksums. TCP opens a connection, ICMP asks for an echo.
func (p *packet) frame() []byte {
	be := binary.BigEndian
	l4 := p.layer4()
	b := make([]byte, 0, 34+len(l4))
	b = append(append(b, p.dstMAC...), p.srcMAC...)
	b = be.AppendUint16(b, 0x0800)
	ip := make([]byte, 20)
	ip[0] = 0x45
	be.PutUint16(ip[2:], uint16(20+len(l4)))
	be.PutUint16(ip[4:], 1)
	be.PutUint16(ip[6:], 0x4000) // do not fragment, as nearly everybody's
	ip[8], ip[9] = p.ttl, p.proto
	copy(ip[12:], p.src.AsSlice())
	copy(ip[16:], p.dst.AsSlice())
	be.PutUint16(ip[10:], checksum(ip))
	return append(append(b, ip...), l4...)
}

func (p *packet) layer4() []byte {
	be := binary.BigEndian
	var h []byte
	sum := -1 // where the checksum stands
	switch p.proto {
	case policy.ProtoTCP:
		h = make([]byte, 20, 20+p.size)
		h[12], h[13] = 5<<4, 0x02 // SYN
		be.PutUint16(h[14:], 64240)
		sum = 16
	case policy.ProtoUDP:
		h = make([]byte, 8, 8+p.size)
		be.PutUint16(h[4:], uint16(8+p.size))
		sum = 6
	case policy.ProtoSCTP:
		h = make([]byte, 12, 12+p.size)
	case protoICMP:
		h = make([]byte, 8, 8+p.size)
		h[0] = 8 // echo request
		be.PutUint16(h[4:], p.sport)
		sum = 2
	}
	if p.proto != protoICMP && len(h) > 0 {
		be.PutUint16(h[0:], p.sport)
		be.PutUint16(h[2:], p.dport)
	}
	h = append(h, make([]byte, p.size)...)
	if sum < 0 {
		return h
	}
	covered := h
	if p.proto != protoICMP {
		pseudo := append(p.src.AsSlice(), p.dst.AsSlice()...)
		pseudo = append(pseudo, 0, p.proto)
		covered = append(be.AppendUint16(pseudo, uint16(len(h))), h...)
	}
	be.PutUint16(h[sum:], checksum(covered))
	return h
}

// checksum is the internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
