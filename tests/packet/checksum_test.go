package packet

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// sum16 adds 16-bit words in one's complement (RFC 1071).
func sum16(b []byte, start uint32) uint16 {
	sum := start
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// checksums verifies the IP header's checksum and the layer 4 checksum of an Ethernet frame, as a receiver without offload does: padding
// behind the datagram does not count, a UDP checksum of 0 is none, and what has no sane lengths is an error.
func checksums(b []byte) error {
	if len(b) < 34 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP {
		return fmt.Errorf("verify frame: %d bytes are no IPv4", len(b))
	}
	ip := b[14:]
	hlen, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || hlen < 20 || total < hlen || total > len(ip) {
		return fmt.Errorf("verify ip header: header of %d, packet of %d, frame with %d bytes", hlen, total, len(ip))
	}
	if s := sum16(ip[:hlen], 0); s != 0xffff {
		return fmt.Errorf("verify ip header: sum is %#04x", s)
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return nil
	}
	l4 := ip[hlen:total]
	pseudo := uint32(sum16(ip[12:20], 0)) + uint32(ip[9]) + uint32(len(l4))
	switch {
	case ip[9] == unix.IPPROTO_TCP && len(l4) >= 20:
	case ip[9] == unix.IPPROTO_UDP && len(l4) >= 8:
		if binary.BigEndian.Uint16(l4[6:]) == 0 {
			return nil
		}
		n := int(binary.BigEndian.Uint16(l4[4:]))
		if n < 8 || n > len(l4) {
			return fmt.Errorf("verify udp header: length is %d of %d", n, len(l4))
		}
		pseudo = uint32(sum16(ip[12:20], 0)) + uint32(ip[9]) + uint32(n)
		l4 = l4[:n]
	case ip[9] == unix.IPPROTO_ICMP && len(l4) >= 8:
		pseudo = 0
	case ip[9] == unix.IPPROTO_TCP, ip[9] == unix.IPPROTO_UDP, ip[9] == unix.IPPROTO_ICMP:
		return fmt.Errorf("verify layer 4: header of protocol %d is cut at %d bytes", ip[9], len(l4))
	default:
		return nil
	}
	if s := sum16(l4, pseudo); s != 0xffff {
		return fmt.Errorf("verify layer 4: sum of protocol %d is %#04x", ip[9], s)
	}
	return nil
}
