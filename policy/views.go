package policy

import (
	"net"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// Result is what Compile decides: what the maps must hold, and what the command line shows. It is not changed after Compile.
type Result struct {
	State     maps.State
	Endpoints []EndpointView // by name
	Ports     []PortView     // Docker's by container, then the user's in the order of their publication
	Bridges   []BridgeView   // by name
	Uplinks   []UplinkView   // by name
	Peers     []PeerView     // by subnet
	Policies  []RuleView     // in the order in which they were compiled: the intent's, then those of labels
	Rules     *rules.Compiled
	Pods      []rules.Pod // what they were compiled for
	Problems  []string    // one line each: what is wrong, and what becomes of it
	Turnover  Turnover    // for Identities.Settle

	names directory
}

// EndpointView is an endpoint with what every source says about it.
type EndpointView struct {
	Identity
	Name        string // unique: the container's, else the namespace's, else the veth's; NAME@BRIDGE for all but the main one
	Container   string // the container's name; empty where no runtime has named it
	ContainerID string
	Labels      map[string]string // the container's
	Shared      []string          // names of the containers that share its network namespace
	Main        bool              // where the ports of its container lead; always true without a container
	Network     string            // Docker's name of the bridge's network
	Internal    bool              // its network has no way out and no way in
	Bridge      string
	BridgeIndex int
	Addrs       []netip.Addr // those that the datapath carries, the main one first
	MAC         net.HardwareAddr
	Veth        string // the host's end; Index is its ifindex
	PeerName    string // the other end, in its namespace
	PeerIndex   int
	Namespace   string
	Ports       []int // indices in Result.Ports of those that lead to it

	exposed []PortProto
}

// Addr is the address that published ports lead to; invalid where the endpoint has none.
func (e *EndpointView) Addr() netip.Addr {
	if len(e.Addrs) == 0 {
		return netip.Addr{}
	}
	return e.Addrs[0]
}

// The sources of a published port.
const (
	SourceDocker = "docker"
	SourceUser   = "user"
)

// PortView is a published port or range.
type PortView struct {
	Spec     PublishSpec
	Source   string     // SourceDocker or SourceUser
	Target   string     // the endpoint's name; where it has none now, what it was published to
	Address  netip.Addr // the container's; invalid while not active
	Active   bool
	Inactive string         // why not, in some words
	Slot     uint16         // of its counters; 0: none
	Endpoint int            // in Result.Endpoints; -1 for none
	From     []netip.Prefix // that alone may use it; none: all may
	Uplink   string         // by which alone the wire reaches it; empty: every one
}

// BridgeView is a bridge that is attached or waited for.
type BridgeView struct {
	Name      string
	Index     int    // ifindex; 0 while it is waited for
	Slot      uint16 // of its counters
	Mode      string // in force: ModeNative or ModeOffload; while it is waited for, what was asked for
	Reason    string // why that mode
	Attached  bool
	Why       string // why it is not attached, in some words
	Network   string // Docker's name
	Endpoints int
	Subnets   []netip.Prefix
	Address   netip.Addr // the gateway's; invalid while not attached
	Docker    bool       // netfilter rules of Docker name it
	// FailClosed: nobody on it is served whom the agent does not know yet.
	FailClosed bool
	// Binding is the address that ports of its containers are published on where none is named (host_binding_ipv4); invalid: every one.
	Binding  netip.Addr
	Spoofing bool // its containers may send from addresses that are not theirs
}

// UplinkView is a device that leads outside, or one that the user named and that is waited for.
type UplinkView struct {
	Name     string
	Index    int
	Address  netip.Addr // the primary one; invalid without
	Attached bool
	Why      string // why it is not attached, in some words
}
