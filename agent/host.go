package agent

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/monitor"
	"github.com/ebpfnet/ebpfnet/agent/observe"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/agent/trace"
	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// Host is all that the agent sees and changes outside itself.
type Host struct {
	Observer Observer
	// LoadDatapath loads the programs and makes the maps, or adopts those that are pinned.
	LoadDatapath func() (Datapath, error)
	// RemoveDatapath takes away everything that LoadDatapath and attaching left, loaded or not.
	RemoveDatapath func() error
	// RemoveOverlay takes away what there is for the way to other hosts.
	RemoveOverlay func() error
	// EndUDP ends the host's UDP sockets that have one of the cookies.
	EndUDP func(cookies map[uint64]bool) (int, error)
	// Listening names a socket in the way of a published port, or "".
	Listening func(addr netip.Addr, first, last uint16, proto uint8) (string, error)
	// DeviceExists tells whether there is a network device of that name.
	DeviceExists func(name string) bool
	// Forwards tells whether the kernel routes IPv4 packets between devices.
	Forwards func() (bool, error)
	// Inside looks into the namespace behind a veth, by the ifindex of the host's end.
	Inside func(ifindex int) (observe.Pair, error)
	// BridgePorts gives the ifindexes of the ports of bridges.
	BridgePorts func(bridges []string) (map[int]bool, error)
	FDB         fdbTable
	Overlay     overlayHost
	// ListenConntrack subscribes to what becomes of tracked connections.
	ListenConntrack func() (offload.Events, error)
	// OpenConntrack opens the kernel's table of tracked connections.
	OpenConntrack func() (Conntrack, error)
	// Way asks the kernel where a packet goes: one that comes in by a device, or, where from is 0, that the host sends.
	Way func(src, dst netip.Addr, from int) (trace.Way, error)
	// Route gives the way of a packet from a container behind a bridge: the device, and the next hop.
	Route    routeFunc
	Sysctls  sysctls
	Features loader.Features
	Names    bpf.Names
	// ObserveReconcile counts a look at the host, and its error where it ended in one.
	ObserveReconcile func(time.Duration, error)
}

// overlayHost is what the kernel has for the way to other hosts.
type overlayHost interface {
	FindPublic(addr netip.Addr, device string) (tunnel.Public, error)
	Near(hosts []netip.Addr) (map[netip.Addr]int, error)
	// RoutesMark is another number when Near may give another answer.
	RoutesMark() (uint64, error)
	Ensure(tunnel.Device) (ifindex int, done string, err error)
	EnsurePair(tunnel.Device) (near, far int, done string, err error)
	// LearntMTUs are those of the ways to other machines that the kernel was told are smaller than their device's.
	LearntMTUs() (map[netip.Addr]int, error)
	// Reserve takes a UDP port until it is closed.
	Reserve(netip.AddrPort) (io.Closer, error)
	Remove(device string) error
	SyncRoutes([]tunnel.Route) error
}

// Observer sees the kernel's devices and Docker's containers.
type Observer interface {
	// Observe looks at everything. What cannot be seen for now (Docker, say) is missing from the result and told by Problems.
	Observe(context.Context) (policy.Observed, error)
	// Changes gives a value when something has changed since the last Observe began.
	Changes() <-chan struct{}
	// Ruled gives a value when a netfilter rule has changed since it was taken last.
	Ruled() <-chan struct{}
	// ForgetRules has the next Observe look at netfilter's rules as they are by then.
	ForgetRules()
	// Torn tells, once, whether somebody has taken a qdisc or a filter off a device since it was asked last.
	Torn() bool
	// Docker tells whether Docker's events are followed.
	Docker() bool
	Problems() []string
}

// Datapath is the programs and the maps. Attaching is the run loop's; the rest is safe from any goroutine until Close.
type Datapath interface {
	AttachVeth(ifindex int) error
	AttachBridge(ifindex int) error
	AttachUplink(ifindex int) error
	AttachOverlay(ifindex int) error
	AttachNear(ifindex int) error
	AttachFar(ifindex int) error
	AttachSockets() error
	Detach(ifindex int) error
	DetachSockets() error
	Attached() (map[int]loader.Hooks, error)
	// Settle is for when programs stand on all hooks: what others have left in the maps of another version is taken over then.
	Settle() error
	Features() loader.Features
	Hook() string
	Notes() []string
	Problems() []string
	// Events opens what the programs tell about packets.
	Events() (monitor.Source, error)
	// NewTrial loads a copy of programs to try packets on.
	NewTrial(programs []string, entries []maps.FlowEntry) (*loader.Trial, error)
	Close()

	Tables
}

// Tables are the maps.
type Tables interface {
	metrics.Counters
	Load() (maps.State, error)
	// Sync writes the difference between the state and what was written last; verify: and what the kernel has.
	Sync(want maps.State, verify bool) error
	// Slots are how many endpoints and bridges the counters have room for.
	Slots() policy.Slots
	ClearEndpointSlot(slot uint16) error
	ClearBridgeSlot(slot uint16) error
	ClearPublishSlot(slot uint16) error
	// KeepPeers has packets from and to these hosts counted.
	KeepPeers(hosts map[bpf.AddrKey]bpf.PeerHost) error
	// DeleteFlowsOf deletes the flows of endpoints, by id, and counts them by protocol (IPPROTO_*).
	DeleteFlowsOf(ids map[uint32]bool) (map[uint8]int, error)
	// ForgetSockets forgets the host's sockets for which stale says so, and gives their cookies.
	ForgetSockets(stale func(bpf.SockKey, bpf.Sock) bool) (map[uint64]bool, error)
	Config() (bpf.Config, error)
	Flows(fn func(*maps.FlowRow) bool) error
	// Adopt enters a flow that the kernel began. Out: false where its tuple is taken.
	Adopt(*maps.Adoption) (bool, error)
	// Flow gives the entry under a key, where there is one.
	Flow(bpf.FlowKey) (bpf.Flow, bool, error)
	// DeleteFlow deletes the flow whose entry under a key matches. Out: false where there is none.
	DeleteFlow(key bpf.FlowKey, match func(*bpf.Flow) bool) (bool, error)
	// DeleteFlows deletes every flow of which an entry matches.
	DeleteFlows(match func(*bpf.FlowKey, *bpf.Flow) bool) (int, error)
	// MoveEpoch has every flow looked at anew when its next packet comes.
	MoveEpoch() error
	// BeginNothing has no more flows begin on bridges; those that are known go on. The next Sync ends that.
	BeginNothing(bridges map[uint32]bool) error
	// FlowEntries tells every entry, both of a flow's.
	FlowEntries(fn func(*bpf.FlowKey, *bpf.Flow)) error
	// FlowsWith gives the entries that have one of the addresses.
	FlowsWith(addrs map[uint32]bool, most int) ([]maps.FlowEntry, error)
	// Expire deletes idle flows and counts the others.
	Expire(now uint32, cfg bpf.Config) (maps.Sweep, error)
	// Fill tells how full the maps are that Sync writes.
	Fill() []maps.Fill
	// Written tells how full the maps are that only programs write and Expire does not walk over.
	Written() ([]maps.Fill, error)
}
