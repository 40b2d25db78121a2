package bpf

import (
	"encoding/binary"
	"net/netip"
)

// The structs and enums of types.h and told.h under the names that the rest of the project uses. Addresses and ports in them are in network byte
// order; Addr, ToAddr, Port and ToPort translate.
type (
	FlowKey          = DatapathFlow4Key
	Flow             = DatapathFlow4
	FlowFlag         = DatapathFlowFlag
	FlowPath         = DatapathFlowPath
	TCPSeen          = DatapathTcpSeen
	Verb             = DatapathVerb
	Zone             = DatapathZone
	AddrKey          = DatapathAddr4
	Endpoint         = DatapathEndpoint4
	Bridge           = DatapathBridge4
	BridgeFlag       = DatapathBridgeFlag
	Veth             = DatapathVeth
	VethFlag         = DatapathVethFlag
	DirectFlag       = DatapathDirectFlag
	Uplink           = DatapathUplink4
	HostAddr         = DatapathHostAddr4
	PrefixKey        = DatapathPrefix4
	Subnet           = DatapathSubnet4
	Peer             = DatapathPeer4
	PeerKind         = DatapathPeerKind
	PeerHost         = DatapathPeerHost4
	Overlay          = DatapathOverlay
	PublishKey       = DatapathPublish4Key
	Publish          = DatapathPublish4
	PublishFromKey   = DatapathPublishFrom4Key
	PublishFrom      = DatapathPublishFrom4
	Ident            = DatapathIdent
	ClassKey         = DatapathClass4Key
	Class            = DatapathClass4
	PairKey          = DatapathPairKey
	ProfileID        = DatapathProfileId
	Pair             = DatapathPair
	ProfileKey       = DatapathProfileKey
	Profile          = DatapathProfile
	SockKey          = DatapathSock4Key
	Sock             = DatapathSock4
	Config           = DatapathConfig
	Counter          = DatapathCounter
	EndpointCounters = DatapathEndpointCounters
	PublishCounters  = DatapathPublishCounters
	PeerCounters     = DatapathPeerCounters
	Tally            = DatapathTally
	DropReason       = DatapathDropReason
	PassReason       = DatapathPassReason
	Event            = DatapathEvent
	Hook             = DatapathHook
	MonitorBit       = DatapathMonitorBit
)

// PolicySets is how many sets of rules the maps have room for: the one in force, and the next.
const PolicySets = uint32(len(Endpoint{}.Policy))

// EgressNone is EGRESS_NONE of types.h.
const EgressNone = ^uint32(0)

// Addr gives an IPv4 address as a map holds it: four bytes in network order. The zero Addr gives 0.
func Addr(a netip.Addr) uint32 {
	if !a.IsValid() {
		return 0
	}
	b := a.Unmap().As4()
	return binary.NativeEndian.Uint32(b[:])
}

// ToAddr is the inverse of Addr.
func ToAddr(v uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// Port gives a port number, in the machine's order, as a map holds it: in network order.
func Port(p uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], p)
	return binary.NativeEndian.Uint16(b[:])
}

// ToPort is the inverse of Port.
func ToPort(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}
