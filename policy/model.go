package policy

import (
	"net"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// Observed is what the kernel and Docker say at one moment. Compile reads it and never changes it.
type Observed struct {
	Bridges    []Bridge
	Uplinks    []Uplink   // every device that could be one; Compile keeps those that the intent names
	HostAddrs  []HostAddr // every IPv4 address of the host's namespace, loopback's 127.0.0.1/8 included
	Endpoints  []Endpoint
	Containers []Container
	Networks   []Network
	Overlay    *Overlay // nil: this host is by itself

	ForeignRules []string // of netfilter and IPsec, that are not Docker's own and could decide over forwarded traffic
	IPsec        bool     // some of them are IPsec's
	RulesUnknown string   // why the rules could not be read, where that is so
}

// Bridge is a Linux bridge in the host's namespace.
type Bridge struct {
	Name        string
	Index       int
	MAC         net.HardwareAddr
	MTU         int
	Addrs       []netip.Prefix // IPv4, address and length as configured, primary first
	DockerRules bool           // netfilter rules of Docker's name this bridge
}

// Uplink is a device that may lead outside.
type Uplink struct {
	Name         string
	Index        int
	MTU          int
	Addrs        []netip.Prefix // IPv4, primary first
	DefaultRoute bool           // an IPv4 default route leaves by it, or did before it went down
	Ethernet     bool           // it has a link-layer header of 14 bytes
	Bridge       bool           // it is a bridge: by itself, a network of containers unless a default route leaves by it
}

// HostAddr is an IPv4 address of the host.
type HostAddr struct {
	Prefix netip.Prefix
	Index  int // the device's ifindex
}

// Endpoint is a network namespace behind a veth that is a port of a bridge.
type Endpoint struct {
	Veth      string // the host's end
	Index     int    // its ifindex
	Bridge    int    // ifindex of the bridge it is a port of
	NSID      int    // the namespace's id as the host's namespace numbers it
	Namespace string // its name where `ip netns` gave it one
	PeerName  string // the other end, in its namespace
	PeerIndex int
	MAC       net.HardwareAddr // of the other end
	MTU       int
	Addrs     []netip.Prefix // IPv4, of the other end
}

// Container is a container that Docker runs.
type Container struct {
	ID          string
	Name        string // without the leading slash
	Labels      map[string]string
	NetworkMode string       // "bridge", "host", "none", "container:<id>", a network's name
	Attachments []Attachment // one per network
	Ports       []ContainerPort
	Exposed     []PortProto // what the image or the container's creator declared
}

// Attachment is a container's place in a Docker network.
type Attachment struct {
	Network    string // name
	NetworkID  string
	MAC        net.HardwareAddr
	Addr       netip.Addr
	Gateway    netip.Addr
	GwPriority int
}

// ContainerPort is a port that Docker publishes. HostIP is 0.0.0.0 for every address.
type ContainerPort struct {
	HostIP   netip.Addr
	HostPort uint16
	Port     uint16
	Proto    uint8 // IPPROTO_*
}

// PortProto is a port number of a protocol.
type PortProto struct {
	Port  uint16
	Proto uint8 // IPPROTO_*
}

// Network is a Docker network of the bridge driver.
type Network struct {
	ID       string
	Name     string
	Bridge   string // the Linux bridge's name
	Internal bool
	Subnets  []netip.Prefix
	Options  map[string]string // as Docker's API gives them
	Labels   map[string]string
}

// Intent is what the user asked for, and what the state file keeps.
type Intent struct {
	Bridges []BridgeIntent `json:"bridges,omitempty"`
	All     bool           `json:"all,omitempty"`      // every Docker bridge network, later ones too
	AllMode string         `json:"all_mode,omitempty"` // auto, native or offload, for those
	Except  []string       `json:"except,omitempty"`   // bridges that All does not mean
	// AllFailClosed is FailClosed of the bridges that All means.
	AllFailClosed bool            `json:"all_fail_closed,omitempty"`
	AllSpoofing   bool            `json:"all_spoofing,omitempty"` // as Spoofing, of the same bridges
	Uplinks       []string        `json:"uplinks,omitempty"`      // empty: by default route
	Publish       []PublishIntent `json:"publish,omitempty"`
	Peers         []PeerIntent    `json:"peers,omitempty"` // other hosts, where no etcd tells of them
	// Policies are the rules that were applied, and those of the files as they were read last without a mistake.
	Policies []rules.Policy `json:"policies,omitempty"`
}

// BridgeIntent is a bridge that the user attached by name.
type BridgeIntent struct {
	Name string `json:"name"`
	Mode string `json:"mode"` // auto, native or offload
	// FailClosed: nobody on the bridge is served whom the agent does not know yet.
	FailClosed bool `json:"fail_closed,omitempty"`
	// Spoofing: its containers may send from addresses that are not theirs.
	Spoofing bool `json:"spoofing,omitempty"`
}

// PublishIntent is a port that the user published, and the endpoint it leads to: a container's name or id, a namespace's name, a veth's
// name or an address. The target is looked up again at every compilation, so a container may come back with another address.
type PublishIntent struct {
	Spec   PublishSpec `json:"spec"` // in the command line's grammar
	Target string      `json:"target"`
	// Container is the id of the container that Target named when the port was published. While a container of this id runs, the port is
	// its, whatever it is called by then; else Target is looked up.
	Container string `json:"container,omitempty"`
	// From are the addresses that alone may use it; none: all may.
	From []netip.Prefix `json:"from,omitempty"`
	// Uplink is the device by which alone the wire reaches it; empty: every one.
	Uplink string `json:"uplink,omitempty"`
}
