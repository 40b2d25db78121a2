package conntrack

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes that package nl does not name (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaNATSrc = 6 // CTA_NAT_SRC
	ctaHelp   = 5
	ctaNATDst = 13
	ctaSeqAdj = 15 // CTA_SEQ_ADJ_ORIG, and the next for the reply

	ctaNATMinIP = 1 // CTA_NAT_V4_MINIP
	ctaNATMaxIP = 2
	ctaNATProto = 3 // CTA_NAT_PROTO

	ctaProtoNATMin = 1 // CTA_PROTONAT_PORT_MIN
	ctaProtoNATMax = 2

	ctaProtoICMPID   = 4
	ctaProtoICMPType = 5
	ctaProtoICMPCode = 6
)

// ICMP types (RFC 792).
const (
	icmpEchoReply = 0
	icmpEcho      = 8
)

// Flags of a TCP entry's sides (include/uapi/linux/netfilter/nf_conntrack_tcp.h).
const (
	// tcpLiberal: sequence numbers outside the window are no reason to call a packet invalid. The kernel has not seen the packets before, so it
	// does not know the window.
	tcpLiberal = 0x08
	// tcpMaxAck: the kernel holds resets against the highest acknowledgement that it has seen.
	tcpMaxAck = 0x20
)

func nested(attr int, children ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(unix.NLA_F_NESTED|attr, nil)
	for _, c := range children {
		a.AddChild(c)
	}
	return a
}

func addrAttr(attr int, a netip.Addr) *nl.RtAttr {
	b := a.As4()
	return nl.NewRtAttr(attr, b[:])
}

func portAttr(attr int, p uint16) *nl.RtAttr { return nl.NewRtAttr(attr, nl.BEUint16Attr(p)) }

// encodeTuple gives a tuple as attr. reply: it is an answer's, which matters for ICMP.
func encodeTuple(attr int, t Tuple, reply bool) *nl.RtAttr {
	proto := nested(nl.CTA_TUPLE_PROTO, nl.NewRtAttr(nl.CTA_PROTO_NUM, []byte{t.Proto}))
	if t.Proto == protoICMP {
		kind := byte(icmpEcho)
		if reply {
			kind = icmpEchoReply
		}
		proto.AddChild(portAttr(ctaProtoICMPID, t.Src.Port()|t.Dst.Port()))
		proto.AddChild(nl.NewRtAttr(ctaProtoICMPType, []byte{kind}))
		proto.AddChild(nl.NewRtAttr(ctaProtoICMPCode, []byte{0}))
	} else {
		proto.AddChild(portAttr(nl.CTA_PROTO_SRC_PORT, t.Src.Port()))
		proto.AddChild(portAttr(nl.CTA_PROTO_DST_PORT, t.Dst.Port()))
	}
	return nested(attr, nested(nl.CTA_TUPLE_IP, addrAttr(nl.CTA_IP_V4_SRC, t.Src.Addr()), addrAttr(nl.CTA_IP_V4_DST, t.Dst.Addr())), proto)
}

// encodeNAT gives the address and the port that an end is translated to.
func encodeNAT(attr int, to netip.AddrPort, port bool) *nl.RtAttr {
	a := nested(attr, addrAttr(ctaNATMinIP, to.Addr()), addrAttr(ctaNATMaxIP, to.Addr()))
	if port {
		a.AddChild(nested(ctaNATProto, portAttr(ctaProtoNATMin, to.Port()), portAttr(ctaProtoNATMax, to.Port())))
	}
	return a
}

// encodeState gives what can be changed about an entry, and its name.
func encodeState(e Entry) []*nl.RtAttr {
	attrs := []*nl.RtAttr{
		encodeTuple(nl.CTA_TUPLE_ORIG, e.Orig, false),
		nl.NewRtAttr(nl.CTA_STATUS, nl.BEUint32Attr(uint32(e.Status|Confirmed))),
		nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(uint32(max(e.Timeout, time.Second)/time.Second))),
	}
	if e.Orig.Proto == protoTCP {
		attrs = append(attrs, encodeTCP(nl.NewRtAttr(nl.CTA_PROTOINFO_TCP_STATE, []byte{byte(e.TCP)})))
	}
	return attrs
}

// encodeTCP has the kernel overlook sequence numbers, in both directions; more is what else to say of the connection.
func encodeTCP(more ...*nl.RtAttr) *nl.RtAttr {
	flags := []byte{tcpLiberal, tcpLiberal | tcpMaxAck} // struct nf_ct_tcp_flags: the flags, and which of them are meant
	tcp := append(more, nl.NewRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, flags), nl.NewRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, flags))
	return nested(nl.CTA_PROTOINFO, nested(nl.CTA_PROTOINFO_TCP, tcp...))
}

// encodeNew gives all of an entry. The kernel wants the reply's tuple as it would be without translation, and makes the translated one itself.
func encodeNew(e Entry) []*nl.RtAttr {
	plain := e.Orig.Inverse()
	attrs := append(encodeState(e), encodeTuple(nl.CTA_TUPLE_REPLY, plain, true))
	ports := e.Orig.Src.Port() != 0 || e.Orig.Dst.Port() != 0
	if e.Reply.Dst != plain.Dst {
		attrs = append(attrs, encodeNAT(ctaNATSrc, e.Reply.Dst, ports))
	}
	if e.Reply.Src != plain.Src {
		attrs = append(attrs, encodeNAT(ctaNATDst, e.Reply.Src, ports))
	}
	return attrs
}
