package maps

import (
	"maps"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// State is the exact content of every map that the control plane writes. A nil map stands for an empty one.
type State struct {
	Endpoints map[bpf.AddrKey]bpf.Endpoint
	Bridges   map[uint32]bpf.Bridge // by ifindex
	Veths     map[uint32]bpf.Veth   // by ifindex
	Uplinks   map[uint32]bpf.Uplink // by ifindex
	HostAddrs map[bpf.AddrKey]bpf.HostAddr
	Subnets   map[bpf.PrefixKey]bpf.Subnet
	Publish   map[bpf.PublishKey]bpf.Publish
	Peers     map[bpf.PrefixKey]bpf.Peer   // other hosts' subnets, and their whole network
	PeerHosts map[bpf.AddrKey]bpf.PeerHost // the hosts themselves
	Overlay   bpf.Overlay                  // this host's tunnel endpoint; zero without one
	// PublishFrom are the addresses that may use the published ports whose From is the key's Id.
	PublishFrom map[bpf.PublishFromKey]bpf.PublishFrom
	Policy      Policy
	NextID      uint32 // config.next_id: the next endpoint id to give out; 0: not known, and left as it is
}

// Policy is what the rules have been compiled to. The kernel holds it twice, and judges by one of the two; which one is Sync's business, so
// that Set is 0 in every key, and the field Policy of every endpoint is empty: Idents has it.
type Policy struct {
	Idents   map[bpf.AddrKey]bpf.Ident // of endpoints; one without rules and without a name in them has none
	Classes  map[bpf.ClassKey]bpf.Class
	Pairs    map[bpf.PairKey]bpf.Pair
	Profiles map[bpf.ProfileKey]bpf.Profile
}

// alike tells whether both say the same, but of endpoints.
func (p Policy) alike(q Policy) bool {
	return maps.Equal(p.Classes, q.Classes) && maps.Equal(p.Pairs, q.Pairs) && maps.Equal(p.Profiles, q.Profiles)
}
