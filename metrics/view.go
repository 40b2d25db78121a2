package metrics

import (
	"time"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Counters are the datapath's counters, each summed over the CPUs. *maps.Maps has them.
type Counters interface {
	PathStats(slot uint16) ([]bpf.Counter, error) // of one bridge, indexed by bpf.FlowPath
	EndpointStats(slot uint16) (bpf.EndpointCounters, error)
	DropStats() ([]bpf.Counter, error) // indexed by bpf.DropReason
	PassStats() ([]bpf.Counter, error) // indexed by bpf.PassReason
	Tallies() ([]uint64, error)        // indexed by bpf.Tally
	PublishStats(slot uint16) (bpf.PublishCounters, error)
	PeerStats(host bpf.AddrKey) (bpf.PeerCounters, error)
	Programs() ([]Program, error) // empty where the kernel does not count them
	Now() (uint32, error)         // in ticks
}

// Source is who knows what stands behind the slots: the agent.
type Source interface {
	// MetricsView is called once a scrape, from any goroutine; what it returns is not changed afterwards.
	MetricsView() View
}

// View is the agent's part of a scrape.
type View struct {
	Counters        Counters // nil while the datapath is not loaded
	Bridges         []Bridge
	Endpoints       []Endpoint
	Ports           int // published ports that lead somewhere; a range counts as its ports
	Flows           []FlowCount
	Maps            []MapFill
	DockerConnected bool
	Published       []Published
	Expired         []FlowCount // flows that were forgotten since the agent began, by the state in which their time was over, or container_gone
	Sweeps          int         // walks over the flow tables since the agent began
	SweepTime       time.Duration
	Peers           []Peer
	Etcd            *Etcd // nil: this host does not follow etcd
	TicksPerSecond  uint32
}

// Published is a published port or range that leads to a container.
type Published struct {
	Spec      string // in the command line's grammar
	Container string
	Proto     string
	Slot      uint16 // in publish_stats; 0: not counted
}

// Peer is another host.
type Peer struct {
	Name  string      // unique: the host's, else its share of the network
	Host  bpf.AddrKey // in peer_stats
	State string      // how its containers are reached: vxlan or direct
}

// Etcd is how the agent and etcd get on.
type Etcd struct {
	Connected                         bool
	Errors, Lists, Renewals, Rejected uint64
}

// Program is what the kernel counted of a program.
type Program struct {
	Name string
	Runs uint64
	Time time.Duration
}

// Bridge is an attached bridge.
type Bridge struct {
	Name string
	Mode string
	Slot uint16 // in path_stats
}

// Endpoint is a container on an attached bridge.
type Endpoint struct {
	Container string // its name, or the endpoint's where no runtime named it
	Bridge    string
	Slot      uint16 // in endpoint_stats
}

// FlowCount is a number of flows (not of entries: a flow has two), as the agent's sweep over the flow tables counted them.
type FlowCount struct {
	Proto string
	State string
	Count int
}

// MapFill is how full a map is.
type MapFill struct {
	Name     string
	Entries  int
	Capacity int
}
