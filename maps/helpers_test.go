package maps

import (
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// newMaps makes the datapath's maps anew, unpinned, with other sizes where sizes says so. It needs root; without it the test is skipped, or
// fails where CI=true.
func newMaps(t testing.TB, sizes map[string]uint32) (*Maps, *bpf.DatapathMaps) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("making maps needs root")
		}
		t.Skip("making maps needs root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.LoadDatapath()
	if err != nil {
		t.Fatal(err)
	}
	spec.Programs = nil
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if m.Type == ebpf.LRUHash {
			m.MaxEntries = 4096
		}
		if n, ok := sizes[name]; ok {
			m.MaxEntries = n
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coll.Close)
	var o bpf.DatapathMaps
	if err := coll.Assign(&o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return New(&o), &o
}

func addr(s string) uint32 {
	return bpf.Addr(netip.MustParseAddr(s))
}

func addrKey(s string) bpf.AddrKey {
	return bpf.AddrKey{Addr: addr(s)}
}

// someState has an entry in each map.
func someState() State {
	return State{
		Endpoints: map[bpf.AddrKey]bpf.Endpoint{
			addrKey("172.17.0.2"): {Id: 1, Ifindex: 11, Bridge: 3, Slot: 0, Mtu: 1500, Mac: [6]uint8{2, 0, 0, 0, 0, 1}},
			addrKey("172.17.0.3"): {Id: 2, Ifindex: 12, Bridge: 3, Slot: 1, Mtu: 1500, Mac: [6]uint8{2, 0, 0, 0, 0, 2}},
		},
		Bridges: map[uint32]bpf.Bridge{3: {Addr: addr("172.17.0.1"), Flags: bpf.DatapathBridgeFlagBRIDGE_ICC, Mac: [6]uint8{2, 1}, Mtu: 1500}},
		Veths:   map[uint32]bpf.Veth{11: {Bridge: 3, Id: 1}, 12: {Bridge: 3, Id: 2, Slot: 1}},
		Uplinks: map[uint32]bpf.Uplink{2: {Mtu: 1500, Naddrs: 1, Addrs: [8]uint32{addr("192.0.2.10")}, Masks: [8]uint32{addr("255.255.255.0")}}},
		HostAddrs: map[bpf.AddrKey]bpf.HostAddr{
			addrKey("127.0.0.1"): {Ifindex: 1}, addrKey("192.0.2.10"): {Ifindex: 2}, addrKey("172.17.0.1"): {Ifindex: 3},
		},
		Subnets: map[bpf.PrefixKey]bpf.Subnet{{Prefixlen: 16, Addr: addr("172.17.0.0")}: {Bridge: 3}},
		Publish: map[bpf.PublishKey]bpf.Publish{
			{Port: bpf.Port(80), Proto: 6}:                           {Addr: addr("172.17.0.2"), Port: bpf.Port(8080), Id: 1},
			{Addr: addr("192.0.2.10"), Port: bpf.Port(80), Proto: 6}: {Addr: addr("172.17.0.3"), Port: bpf.Port(80), Id: 2}, // H-6
		},
		Peers: map[bpf.PrefixKey]bpf.Peer{
			{Prefixlen: 16, Addr: addr("10.200.0.0")}: {},
			{Prefixlen: 24, Addr: addr("10.200.2.0")}: {Addr: addr("192.0.2.11"), Kind: bpf.DatapathPeerKindPEER_VXLAN, Mac: [6]uint8{2, 2}},
		},
		PeerHosts:   map[bpf.AddrKey]bpf.PeerHost{addrKey("192.0.2.11"): {Direct: 1}},
		Overlay:     bpf.Overlay{Ifindex: 9, Vni: 1, Local: addr("192.0.2.10"), Mtu: 1450, Mac: [6]uint8{2, 3}},
		PublishFrom: map[bpf.PublishFromKey]bpf.PublishFrom{{Prefixlen: 40, Id: 1, Addr: addr("10.0.0.0")}: {Allow: 1}},
		Policy:      somePolicy(),
		NextID:      3,
	}
}

// somePolicy selects the first of the endpoints: who is in 192.0.2.0/24 may dial its TCP port 80.
func somePolicy() Policy {
	return Policy{
		Idents:  map[bpf.AddrKey]bpf.Ident{addrKey("172.17.0.2"): {Class: 1, Ingress: 1}},
		Classes: map[bpf.ClassKey]bpf.Class{{Prefixlen: 56, Addr: addr("192.0.2.0")}: {Class: 2}},
		Pairs:   map[bpf.PairKey]bpf.Pair{{From: 2, To: 1}: {Ingress: 2}},
		Profiles: map[bpf.ProfileKey]bpf.Profile{
			{Prefixlen: 64, Profile: 1}:                               {Rule: 1},
			{Prefixlen: 64, Profile: 2}:                               {Rule: 1},
			{Prefixlen: 96, Profile: 2, Proto: 6, Port: bpf.Port(80)}: {Allow: 1, Rule: 2},
		},
	}
}
