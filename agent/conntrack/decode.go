package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attrs are the attributes on one level, without the bits that say how they are encoded.
func attrs(b []byte) (map[int][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	all := make(map[int][]byte, len(list))
	for _, a := range list {
		all[int(a.Attr.Type)&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Value
	}
	return all, nil
}

// decode reads one message of a dump. Out: false for an entry that is not this package's business: another zone's, or one that is no more.
func decode(msg []byte) (Entry, bool, error) {
	e, ok, err := decodeAny(msg)
	return e, ok && e.Status&Dying == 0, err
}

// decodeAny is decode that also reads what is told of an entry that is no more.
func decodeAny(msg []byte) (e Entry, ok bool, err error) {
	if len(msg) < nl.SizeofNfgenmsg {
		return e, false, fmt.Errorf("a message of %d bytes", len(msg))
	}
	if msg[0] != unix.AF_INET {
		return e, false, nil
	}
	all, err := attrs(msg[nl.SizeofNfgenmsg:])
	if err != nil {
		return e, false, fmt.Errorf("decode entry: %w", err)
	}
	if len(all[nl.CTA_ZONE]) != 0 {
		return e, false, nil
	}
	if e.Orig, err = decodeTuple(all[nl.CTA_TUPLE_ORIG], false); err != nil {
		return e, false, err
	}
	if e.Reply, err = decodeTuple(all[nl.CTA_TUPLE_REPLY], true); err != nil {
		return e, false, err
	}
	e.Status = Status(number(all[nl.CTA_STATUS]))
	e.Timeout = time.Duration(number(all[nl.CTA_TIMEOUT])) * time.Second
	_, helper := all[ctaHelp]
	_, seq := all[ctaSeqAdj]
	_, seqReply := all[ctaSeqAdj+1]
	e.Adjusted = helper || seq || seqReply || e.Status&(helped|offloaded|Expected) != 0
	if info := all[nl.CTA_PROTOINFO]; info != nil {
		if e.TCP, err = decodeTCP(info); err != nil {
			return e, false, err
		}
	}
	return e, true, nil
}

func decodeTCP(b []byte) (TCPState, error) {
	info, err := attrs(b)
	if err != nil {
		return 0, fmt.Errorf("decode protocol: %w", err)
	}
	tcp, err := attrs(info[nl.CTA_PROTOINFO_TCP])
	if err != nil {
		return 0, fmt.Errorf("decode TCP: %w", err)
	}
	return TCPState(number(tcp[nl.CTA_PROTOINFO_TCP_STATE])), nil
}

func decodeTuple(b []byte, reply bool) (Tuple, error) {
	var t Tuple
	parts, err := attrs(b)
	if err != nil {
		return t, fmt.Errorf("decode tuple: %w", err)
	}
	ip, err := attrs(parts[nl.CTA_TUPLE_IP])
	if err != nil {
		return t, fmt.Errorf("decode addresses: %w", err)
	}
	proto, err := attrs(parts[nl.CTA_TUPLE_PROTO])
	if err != nil {
		return t, fmt.Errorf("decode protocol: %w", err)
	}
	src, okSrc := netip.AddrFromSlice(ip[nl.CTA_IP_V4_SRC])
	dst, okDst := netip.AddrFromSlice(ip[nl.CTA_IP_V4_DST])
	if !okSrc || !okDst || len(proto[nl.CTA_PROTO_NUM]) != 1 {
		return t, fmt.Errorf("decode tuple: addresses or protocol are missing")
	}
	t.Proto = proto[nl.CTA_PROTO_NUM][0]
	sport, dport := uint16(number(proto[nl.CTA_PROTO_SRC_PORT])), uint16(number(proto[nl.CTA_PROTO_DST_PORT]))
	if t.Proto == protoICMP {
		id := uint16(number(proto[ctaProtoICMPID]))
		sport, dport = id, 0
		if reply {
			sport, dport = 0, id
		}
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return t, nil
}

// number is an integer in network order, of any width; 0 where there is none.
func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
