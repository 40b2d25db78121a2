// Package api is what the agent and the command line say to each other: JSON over HTTP on a unix socket. The types here are also what the
// commands print with `-o json`, so their field names are part of the command line's contract.
//
// The invariant: no behaviour, only shapes. It imports nothing of this project.
package api

import "time"

// AttachRequest asks for bridges to be attached. Exactly one of Bridges and All is set.
type AttachRequest struct {
	Bridges []string `json:"bridges,omitempty"`
	All     bool     `json:"all,omitempty"`
	Uplinks []string `json:"uplinks,omitempty"`
	Mode    string   `json:"mode"` // auto, native or offload
	Wait    bool     `json:"wait,omitempty"`
	// FailClosed: nobody on the bridges is served whom the agent does not know yet.
	FailClosed bool `json:"fail_closed,omitempty"`
	// Spoofing: containers on the bridges may send from addresses that are not theirs.
	Spoofing bool `json:"allow_spoofing,omitempty"`
}

// DetachRequest asks for bridges to be detached. All also forgets published ports and stops an agent that attach started.
type DetachRequest struct {
	Bridges []string `json:"bridges,omitempty"`
	All     bool     `json:"all,omitempty"`
}

// PublishRequest asks for a port, in the command line's grammar, to lead to a running container. An empty Target leaves the choice to the
// agent.
type PublishRequest struct {
	Spec   string `json:"spec"`
	Target string `json:"target,omitempty"`
	// From is CIDR[,CIDR]: the addresses that alone may use the port; empty: all may.
	From string `json:"from,omitempty"`
	// Uplink is the device by which alone the wire reaches it; empty: every one.
	Uplink string `json:"uplink,omitempty"`
}

// UnpublishRequest takes a published port back.
type UnpublishRequest struct {
	Spec string `json:"spec"`
}

// Error is the body of every answer that is not 2xx. Usage says that the request was malformed (exit code 2).
type Error struct {
	Message string `json:"error"`
	Usage   bool   `json:"usage,omitempty"`
}

// Status is what `ebpfnet status` prints.
type Status struct {
	Instance string         `json:"instance"`
	Version  string         `json:"version"`
	Mode     string         `json:"mode"`
	Agent    AgentStatus    `json:"agent"`
	Bridges  []BridgeStatus `json:"bridges"`
	Uplinks  []UplinkStatus `json:"uplinks"`
	Overlay  *OverlayStatus `json:"overlay,omitempty"`
	Kernel   KernelStatus   `json:"kernel"`
	Monitors int            `json:"monitors"` // how many look at packets (see MonitorQuery); while none does, packets pay nothing for it
	Problems []string       `json:"problems"`
}

// AgentStatus tells whether an agent runs, and where to find it.
type AgentStatus struct {
	Running    bool   `json:"running"`
	PID        int    `json:"pid"`
	MetricsURL string `json:"metrics_url"`
	PageURL    string `json:"page_url"` // what goes on, for a browser
	Log        string `json:"log"`
	Background bool   `json:"background"` // started by attach; detach --all ends it
}

// BridgeStatus is one attached bridge.
type BridgeStatus struct {
	Name      string   `json:"name"`
	Mode      string   `json:"mode"`     // native or offload; while it is waited for, what was asked for
	Reason    string   `json:"reason"`   // why that mode
	Attached  bool     `json:"attached"` // false while it is waited for
	Endpoints int      `json:"endpoints"`
	Subnets   []string `json:"subnets"`
	Rules     string   `json:"rules"` // "docker" where Docker's netfilter rules stand behind ebpfnet, "none" where not
	// FailClosed: containers that the agent does not know yet are not served.
	FailClosed bool `json:"fail_closed,omitempty"`
	// Spoofing: its containers may send from addresses that are not theirs.
	Spoofing bool `json:"allow_spoofing,omitempty"`
}

// UplinkStatus is one attached uplink. Hook is tcx or clsact.
type UplinkStatus struct {
	Name    string `json:"name"`
	Hook    string `json:"hook"`
	Address string `json:"address"`
}

// KernelStatus is what the kernel offers of what ebpfnet can use, and the number of entries in the flow tables.
type KernelStatus struct {
	Release  string          `json:"release"`
	Hook     string          `json:"hook"` // tcx or clsact
	Features map[string]bool `json:"features"`
}

// Endpoint is one row of `ebpfnet endpoint list`, and what `endpoint get` prints. Container and ID are empty where no runtime has named it.
type Endpoint struct {
	Name        string           `json:"name"`
	Container   string           `json:"container"`
	ID          string           `json:"id"`
	Bridge      string           `json:"bridge"`
	Addresses   []string         `json:"addresses"`
	MAC         string           `json:"mac"`
	Veth        string           `json:"veth"`
	VethIfindex int              `json:"veth_ifindex"`
	PeerName    string           `json:"peer_name"`
	PeerIfindex int              `json:"peer_ifindex"`
	Network     string           `json:"network"`
	Shared      []string         `json:"shared,omitempty"` // containers that share its network namespace
	Ports       []Port           `json:"ports"`
	Counters    EndpointCounters `json:"counters"`
}

// EndpointCounters counts from the container's side: Receive is what it got. Bytes include the link-layer header.
type EndpointCounters struct {
	ReceivePackets  uint64 `json:"receive_packets"`
	ReceiveBytes    uint64 `json:"receive_bytes"`
	ReceiveDropped  uint64 `json:"receive_dropped"`
	TransmitPackets uint64 `json:"transmit_packets"`
	TransmitBytes   uint64 `json:"transmit_bytes"`
	TransmitDropped uint64 `json:"transmit_dropped"`
}

// Port is a published port or an equal-length pair of ranges; HostEnd and ContainerEnd repeat the first port where it is one. HostIP is
// 0.0.0.0 for every address. Source is docker or user. Active is false while its container does not run.
type Port struct {
	HostIP        string `json:"host_ip"`
	HostPort      uint16 `json:"host_port"`
	HostEnd       uint16 `json:"host_end"`
	ContainerPort uint16 `json:"container_port"`
	ContainerEnd  uint16 `json:"container_end"`
	Proto         string `json:"proto"`
	Endpoint      string `json:"endpoint"`
	Address       string `json:"address"`
	Source        string `json:"source"`
	Active        bool   `json:"active"`
	From          string `json:"from,omitempty"`   // the addresses that alone may use it, with commas between them
	Uplink        string `json:"uplink,omitempty"` // by which alone the wire reaches it
}

// Tuple is one direction of a flow as it is seen at one place.
type Tuple struct {
	Source          string `json:"source"`
	SourcePort      uint16 `json:"source_port"`
	Destination     string `json:"destination"`
	DestinationPort uint16 `json:"destination_port"`
}

// Flow is one flow: what its originator sends, and what that becomes. Packets and Bytes are of both directions; Age and Idle in seconds.
type Flow struct {
	Proto      string  `json:"proto"`
	Path       string  `json:"path"`
	State      string  `json:"state"`
	Original   Tuple   `json:"original"`
	Translated Tuple   `json:"translated"`
	Container  string  `json:"container"`
	Packets    uint64  `json:"packets"`
	Bytes      uint64  `json:"bytes"`
	Reply      Traffic `json:"reply"` // the answering direction's share
	Age        float64 `json:"age"`
	Idle       float64 `json:"idle"`
	Offloaded  bool    `json:"offloaded,omitempty"` // the kernel tracks it too, and its rules decide
}

// Traffic is a number of packets and their bytes.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Finding is one line of `ebpfnet doctor`. Level is ok, note, warning or error; Advice says what to do, and is empty where all is well.
type Finding struct {
	Level  string `json:"level"`
	Check  string `json:"check"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// Started is the answer to AttachRequest: what is attached now, and what is waited for.
type Started struct {
	Attached []string  `json:"attached"`
	Waiting  []string  `json:"waiting,omitempty"`
	At       time.Time `json:"at"`
}
