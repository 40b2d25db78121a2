package api

import "time"

// MonitorQuery says which events are asked for; each field that is not empty narrows. It is sent as the query of GET /v1/monitor.
type MonitorQuery struct {
	Drops     bool   // drops alone
	Container string // as one who sends or receives: a name, an id's beginning, an address
	Proto     string // a name or a number
	Port      string // on either side, before or after translation
	Address   string // or a prefix; likewise
	Reason    string // of a drop or of a pass
	Packet    bool   // with the beginning of the packet
}

// Monitored is one line of the answer to MonitorQuery: an event, or a number of events that were lost.
type Monitored struct {
	Event *Event `json:"event,omitempty"`
	Lost  uint64 `json:"lost,omitempty"`
}

// Event is what a program decided about a packet. Verdict is drop, pass (left to the kernel), hold (a piece of a
// datagram that waits for its first piece, or has waited and comes in again) or forward; Reason says why, for the first two.
// From and To are containers, where they are known. Packet is the frame as it goes on, or its beginning: Length tells its whole length.
type Event struct {
	Time       time.Time `json:"time"`
	Program    string    `json:"program"`
	Device     string    `json:"device"`
	Verdict    string    `json:"verdict"`
	Reason     string    `json:"reason,omitempty"`
	Rule       string    `json:"rule,omitempty"` // that decided
	Path       string    `json:"path,omitempty"`
	Out        string    `json:"out,omitempty"` // the device that its flow leads to: a container's veth, an uplink
	From       string    `json:"from,omitempty"`
	To         string    `json:"to,omitempty"`
	Proto      string    `json:"proto,omitempty"` // empty where it is not IPv4
	EtherType  uint16    `json:"ether_type"`
	Original   Tuple     `json:"original"`
	Translated Tuple     `json:"translated"`
	Length     uint32    `json:"length"`
	Packet     []byte    `json:"packet,omitempty"`
}
