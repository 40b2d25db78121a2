package api

// TraceQuery says what packet to try. From is "wire", "host" or a container; To is an address, or a container for its address.
type TraceQuery struct {
	From        string `json:"from"`
	FromAddress string `json:"from_address,omitempty"` // of the sender on the wire; a container's is its own where this is empty
	Uplink      string `json:"uplink,omitempty"`       // where it comes from the wire; empty: the uplink with the address, or the way back
	To          string `json:"to"`
	Port        uint16 `json:"port,omitempty"`
	Proto       string `json:"proto"` // tcp, udp, sctp, icmp or a number
	SourcePort  uint16 `json:"source_port,omitempty"`
	Size        int    `json:"size,omitempty"` // of the payload, in bytes
	TTL         uint8  `json:"ttl,omitempty"`  // 0: 64
}

// Trace is what would become of it. Verdict, Reason and the tuples are those of the last program that has a say; Verdict is empty where none
// has. Device is where it goes in the end, where that is known: a container's veth, an uplink; NextHop the neighbour behind it.
type Trace struct {
	Verdict    string      `json:"verdict"`
	Reason     string      `json:"reason,omitempty"`
	Rule       string      `json:"rule,omitempty"` // that decided
	Proto      string      `json:"proto"`
	Original   Tuple       `json:"original"`
	Translated Tuple       `json:"translated"`
	Path       string      `json:"path,omitempty"`
	Flow       string      `json:"flow,omitempty"` // known, or new
	Device     string      `json:"device,omitempty"`
	NextHop    string      `json:"next_hop,omitempty"`
	To         string      `json:"to,omitempty"`     // the container it reaches
	Peer       string      `json:"peer,omitempty"`   // the subnet of the other host that it goes to
	Kernel     string      `json:"kernel,omitempty"` // what the kernel does with it, where it is handed over
	Steps      []TraceStep `json:"steps"`
}

// TraceStep is one fact, in the order in which it comes about.
type TraceStep struct {
	Step string `json:"step"`
	Fact string `json:"fact"`
}
