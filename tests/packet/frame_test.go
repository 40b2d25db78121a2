package packet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// frame describes a packet. Its methods give a changed copy, so that what comes out can be written as what went in and a difference.
type frame struct {
	proto    string // tcp, udp, sctp, gre, icmp
	src, dst string // address:port; of ICMP the address alone
	srcMAC   net.HardwareAddr
	dstMAC   net.HardwareAddr
	ttl      uint8
	fragment uint16 // IP flags and offset
	options  []byte // of IP, a multiple of 4
	flags    string // of TCP: letters of SFRPA
	icmp     layers.ICMPv4TypeCode
	id       uint16 // of ICMP: its second word's halves
	seq      uint16
	ipID     uint16
	noSum    bool   // UDP checksum 0
	mss      uint16 // TCP option; 0: none
	payload  []byte
	edits    []func(b []byte) []byte // on the finished frame, with checksums left as they are
	gsoSize  uint32
	gsoSegs  uint32
	outer    bool // of a tunnel: IP id and source port are whatever its sender chooses
}

func tcp(src, dst, flags string) frame {
	return frame{proto: "tcp", src: src, dst: dst, flags: flags, ttl: 64, ipID: 0x1234}
}

func sctp(src, dst string) frame {
	return frame{proto: "sctp", src: src, dst: dst, ttl: 64, ipID: 0x1234, payload: []byte("a chunk of sixteen"[:16])}
}

func udp(src, dst string) frame {
	return frame{proto: "udp", src: src, dst: dst, ttl: 64, ipID: 0x1234, payload: []byte("hello, world")}
}

func echo(src, dst string, id uint16) frame { return icmp(src, dst, layers.ICMPv4TypeEchoRequest, id) }

func echoReply(src, dst string, id uint16) frame {
	return icmp(src, dst, layers.ICMPv4TypeEchoReply, id)
}

func icmp(src, dst string, kind uint8, id uint16) frame {
	return frame{
		proto: "icmp", src: src, dst: dst, ttl: 64, ipID: 0x1234, icmp: layers.CreateICMPv4TypeCode(kind, 0), id: id, seq: 1, payload: []byte("0123456789abcdef"),
	}
}

// icmpError is an error of a code about a packet, of which it quotes the first n bytes behind the link-layer header, or all. word is the lower half
// of its second word: the MTU, if the packet was too big.
func icmpError(src, dst string, kind, code uint8, word uint16, about frame, n int) frame {
	packet := about.bytes()[14:]
	f := icmp(src, dst, kind, 0).data(packet[:min(n, len(packet))])
	f.icmp, f.seq = layers.CreateICMPv4TypeCode(kind, code), word
	return f
}

// pieces cuts the datagram of a frame into pieces of at most n bytes of payload each, n a multiple of 8.
func (f frame) pieces(n int) []frame {
	whole := f.bytes()
	payload := whole[34:]
	var out []frame
	for at := 0; at < len(payload); at += n {
		piece, end := f, min(at+n, len(payload))
		piece.fragment = uint16(at / 8)
		if end < len(payload) {
			piece.fragment |= 0x2000
		}
		part := append([]byte(nil), payload[at:end]...)
		out = append(out, piece.edit(func(b []byte) []byte {
			b = append(b[:34:34], part...)
			binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
			return b
		}).refresh())
	}
	return out
}

// portless is a packet of a protocol that the datapath knows no ports of.
func portless(proto, src, dst string) frame {
	return frame{proto: proto, src: src, dst: dst, ttl: 64, ipID: 0x1234, payload: []byte("sixteen bytes...")}
}

func (f frame) from(src string) frame    { f.src = src; return f }
func (f frame) to(dst string) frame      { f.dst = dst; return f }
func (f frame) withTTL(ttl uint8) frame  { f.ttl = ttl; return f }
func (f frame) withID(id uint16) frame   { f.id = id; return f }
func (f frame) withMSS(mss uint16) frame { f.mss = mss; return f }
func (f frame) noChecksum() frame        { f.noSum = true; return f }
func (f frame) data(b []byte) frame      { f.payload = b; return f }
func (f frame) ipOptions(b []byte) frame { f.options = b; return f }

func (f frame) macs(src, dst net.HardwareAddr) frame {
	f.srcMAC, f.dstMAC = src, dst
	return f
}

// gso makes the frame one that offload holds together, of segments with size bytes of payload.
func (f frame) gso(size, segs uint32) frame {
	f.gsoSize, f.gsoSegs = size, segs
	return f
}

// edit spoils the finished bytes.
func (f frame) edit(e func(b []byte) []byte) frame {
	f.edits = append(f.edits[:len(f.edits):len(f.edits)], e)
	return f
}

// cut keeps the first n bytes.
func (f frame) cut(n int) frame { return f.edit(func(b []byte) []byte { return b[:n] }) }

// pad adds what a device puts behind a short frame; not zeros, so that it shows in a checksum.
func (f frame) pad(n int) frame {
	return f.edit(func(b []byte) []byte {
		for len(b) < n {
			b = append(b, 0xa5)
		}
		return b
	})
}

// put8 and put16 write a field at an offset from the start of the frame.
func (f frame) put8(at int, v uint8) frame {
	return f.edit(func(b []byte) []byte { b[at] = v; return b })
}

func (f frame) put16(at int, v uint16) frame {
	return f.edit(func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], v); return b })
}

// refresh makes the IP header's checksum right again after an edit.
func (f frame) refresh() frame {
	return f.edit(func(b []byte) []byte {
		hlen := int(b[14]&0xf) * 4
		binary.BigEndian.PutUint16(b[24:], 0)
		binary.BigEndian.PutUint16(b[24:], ^sum16(b[14:14+hlen], 0))
		return b
	})
}

func split(s string) (net.IP, uint16) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().AsSlice(), ap.Port()
	}
	return netip.MustParseAddr(s).AsSlice(), 0
}

// bytes gives the frame as it is on a wire. A frame that cannot be built is a mistake in a test.
func (f frame) bytes() []byte {
	src, sport := split(f.src)
	dst, dport := split(f.dst)
	ip := &layers.IPv4{
		Version: 4, TTL: f.ttl, Id: f.ipID, Protocol: layers.IPProtocol(protocols()[f.proto]), SrcIP: src, DstIP: dst,
		Flags: layers.IPv4Flag(f.fragment >> 13), FragOffset: f.fragment & 0x1fff,
	}
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
	copy(eth.SrcMAC, f.srcMAC)
	copy(eth.DstMAC, f.dstMAC)
	stack := []gopacket.SerializableLayer{eth, ip}
	switch f.proto {
	case "tcp":
		l := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: 1000, Window: 1024}
		for flag, field := range map[string]*bool{"S": &l.SYN, "F": &l.FIN, "R": &l.RST, "P": &l.PSH, "A": &l.ACK} {
			*field = strings.Contains(f.flags, flag)
		}
		if f.mss != 0 {
			l.Options = []layers.TCPOption{
				{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, f.mss)},
			}
		}
		_ = l.SetNetworkLayerForChecksum(ip)
		stack = append(stack, l)
	case "sctp":
		stack = append(stack, &layers.SCTP{SrcPort: layers.SCTPPort(sport), DstPort: layers.SCTPPort(dport), VerificationTag: 0x5eaf00d})
	case "udp":
		l := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
		_ = l.SetNetworkLayerForChecksum(ip)
		stack = append(stack, l)
	case "icmp":
		stack = append(stack, &layers.ICMPv4{TypeCode: f.icmp, Id: f.id, Seq: f.seq})
	}
	buf := gopacket.NewSerializeBuffer()
	stack = append(stack, gopacket.Payload(f.payload))
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		panic(fmt.Sprintf("build frame %+v: %v", f, err))
	}
	b := append([]byte(nil), buf.Bytes()...)
	b = b[:14+binary.BigEndian.Uint16(b[16:])] // without the padding that gopacket gives a short frame
	if f.proto == "udp" && f.noSum {
		b[40], b[41] = 0, 0
	}
	if f.options != nil {
		b = insertOptions(b, f.options)
	}
	for _, e := range f.edits {
		b = e(b)
	}
	return b
}

// insertOptions puts options, which may be malformed, behind the IP header.
func insertOptions(b, options []byte) []byte {
	out := append(append(append([]byte(nil), b[:34]...), options...), b[34:]...)
	out[14] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(out[16:], uint16(len(out)-14))
	binary.BigEndian.PutUint16(out[24:], 0)
	binary.BigEndian.PutUint16(out[24:], ^sum16(out[14:34+len(options)], 0))
	return out
}

// describe writes a frame out for the report of a difference: what a reader looks at first, then all of it.
func describe(b []byte) string {
	if len(b) < atL4+8 || binary.BigEndian.Uint16(b[atEtherType:]) != 0x0800 {
		return fmt.Sprintf("% x", b)
	}
	at := func(off int) netip.Addr { return netip.AddrFrom4([4]byte(b[off : off+4])) }
	l4 := min(atIP+int(b[atIP]&0xf)*4, len(b)-8)
	return fmt.Sprintf("%s > %s, protocol %d %s > %s, ttl %d, layer 4 % x\n% x", net.HardwareAddr(b[6:12]), net.HardwareAddr(b[:6]),
		b[atProto], at(atSource), at(atSource+4), b[22], b[l4:l4+8], b)
}
