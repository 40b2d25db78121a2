package conntrack

import (
	"net/netip"
	"time"
)

// Tuple is what one side of a connection sends. An ICMP query has its id as the source's port, and its answer as the destination's;
// protocols without ports have 0 in both.
type Tuple struct {
	Src, Dst netip.AddrPort
	Proto    uint8 // IPPROTO_*
}

// Inverse is what the other side sends where nothing is translated.
func (t Tuple) Inverse() Tuple { return Tuple{Src: t.Dst, Dst: t.Src, Proto: t.Proto} }

// Entry is a tracked connection.
type Entry struct {
	Orig, Reply Tuple // what each side sends, before it is translated
	Status      Status
	Timeout     time.Duration // until the kernel forgets it, if nothing comes
	TCP         TCPState
	// Adjusted: the kernel changes what is in the packets too, or their sequence numbers (a helper's doing). Only read.
	Adjusted bool
}

// Translated tells whether an end's address or port is not what the other end sees.
func (e *Entry) Translated() bool { return e.Reply != e.Orig.Inverse() }

// Status is a set of bits (enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h).
type Status uint32

const (
	Expected  Status = 1 << 0
	SeenReply Status = 1 << 1
	Assured   Status = 1 << 2
	Confirmed Status = 1 << 3
	Dying     Status = 1 << 9
	helped    Status = 1 << 13
	offloaded Status = 1 << 14
)

// TCPState is enum tcp_conntrack (include/uapi/linux/netfilter/nf_conntrack_tcp.h).
type TCPState uint8

const (
	TCPNone        TCPState = 0
	TCPSynSent     TCPState = 1
	TCPSynRecv     TCPState = 2
	TCPEstablished TCPState = 3
	TCPFinWait     TCPState = 4
	TCPTimeWait    TCPState = 7
)

// Protocols whose tuples are encoded in a way of their own.
const (
	protoICMP = 1
	protoTCP  = 6
)
