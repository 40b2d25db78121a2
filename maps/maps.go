package maps

import (
	"sync"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Maps is the datapath's maps. Its methods may be called from any goroutine; those that write wait for each other.
type Maps struct {
	o *bpf.DatapathMaps

	mu   sync.Mutex
	have *State // what the kernel holds; nil where that is not known
	// policy is what it holds of rules, both sets; nil where that is not known.
	policy *policyHave

	counted map[bpf.AddrKey]bool // hosts that have counters; nil where that is not known
}

// New takes loaded maps, which it does not close.
func New(o *bpf.DatapathMaps) *Maps {
	return &Maps{o: o}
}

// EndpointSlots is how many endpoints endpoint_stats has room for. The map may be larger or smaller than the setting where it was adopted.
func (m *Maps) EndpointSlots() int {
	return int(m.o.EndpointStats.MaxEntries())
}

// BridgeSlots is how many bridges path_stats has room for.
func (m *Maps) BridgeSlots() int {
	return int(m.o.PathStats.MaxEntries()) / int(bpf.DatapathFlowPathPATH_MAX)
}

// Fill is how full a map is.
type Fill struct {
	Name     string
	Entries  int
	Capacity int
}

// Fill tells how full the maps are that Sync writes; Expire tells it of the flow tables. It is nil before the first Load or Sync.
func (m *Maps) Fill() []Fill {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.have == nil {
		return nil
	}
	h := m.have
	return []Fill{
		{bpf.DatapathMapEndpoints4, len(h.Endpoints), int(m.o.Endpoints4.MaxEntries())},
		{bpf.DatapathMapBridges4, len(h.Bridges), int(m.o.Bridges4.MaxEntries())},
		{bpf.DatapathMapVeths, len(h.Veths), int(m.o.Veths.MaxEntries())},
		{bpf.DatapathMapUplinks4, len(h.Uplinks), int(m.o.Uplinks4.MaxEntries())},
		{bpf.DatapathMapHostAddrs4, len(h.HostAddrs), int(m.o.HostAddrs4.MaxEntries())},
		{bpf.DatapathMapSubnets4, len(h.Subnets), int(m.o.Subnets4.MaxEntries())},
		{bpf.DatapathMapPublish4, len(h.Publish), int(m.o.Publish4.MaxEntries())},
		{bpf.DatapathMapPeers4, len(h.Peers), int(m.o.Peers4.MaxEntries())},
		{bpf.DatapathMapPeerHosts4, len(h.PeerHosts), int(m.o.PeerHosts4.MaxEntries())},
		{bpf.DatapathMapPublishFrom4, len(h.PublishFrom), int(m.o.PublishFrom4.MaxEntries())},
		// Half of each is for the set of rules that comes next.
		{bpf.DatapathMapClasses4, len(h.Policy.Classes), int(m.o.Classes4.MaxEntries() / bpf.PolicySets)},
		{bpf.DatapathMapPairs, len(h.Policy.Pairs), int(m.o.Pairs.MaxEntries() / bpf.PolicySets)},
		{bpf.DatapathMapProfiles, len(h.Policy.Profiles), int(m.o.Profiles.MaxEntries() / bpf.PolicySets)},
	}
}
