package maps

import "github.com/ebpfnet/ebpfnet/bpf"

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
	NextID    uint32                       // config.next_id: the next endpoint id to give out; 0: not known, and left as it is
}
