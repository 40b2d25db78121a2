package handover

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

const (
	bridge, other = 10, 11 // ifindexes
	uplink        = 2
	docker        = bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES
)

func addr(s string) bpf.AddrKey { return bpf.AddrKey{Addr: bpf.Addr(netip.MustParseAddr(s))} }

// world has two containers on a bridge that is being attached, and one on another.
func world() *World {
	return &World{
		State: maps.State{
			Endpoints: map[bpf.AddrKey]bpf.Endpoint{
				addr("172.17.0.2"): {Id: 1, Ifindex: 21, Bridge: bridge, Slot: 1, Mtu: 1500, Mac: [6]uint8{2}},
				addr("172.17.0.3"): {Id: 2, Ifindex: 22, Bridge: bridge, Slot: 2, Mtu: 1500, Mac: [6]uint8{3}},
				addr("172.18.0.2"): {Id: 3, Ifindex: 23, Bridge: other, Slot: 3, Mtu: 1500, Mac: [6]uint8{4}},
			},
			Bridges:   map[uint32]bpf.Bridge{bridge: {Flags: docker, Slot: 1, Mac: [6]uint8{9}}, other: {Flags: docker, Slot: 2}},
			Uplinks:   map[uint32]bpf.Uplink{uplink: {Mtu: 1400}},
			HostAddrs: map[bpf.AddrKey]bpf.HostAddr{addr("192.0.2.1"): {}, addr("172.17.0.1"): {}},
			Publish: map[bpf.PublishKey]bpf.Publish{
				{Port: bpf.Port(8080), Proto: 17}: {Addr: addr("172.17.0.2").Addr, Port: bpf.Port(80), Id: 1},
			},
		},
		Bridges: map[uint32]bool{bridge: true},
		Epoch:   7, Now: 1000,
		Route: func(uint32, netip.Addr, netip.Addr) (uint32, netip.Addr, bool) {
			return uplink, netip.MustParseAddr("192.0.2.254"), true
		},
	}
}

func entry(proto uint8, src, dst, rsrc, rdst string) conntrack.Entry {
	t := func(s, d string) conntrack.Tuple {
		return conntrack.Tuple{Src: netip.MustParseAddrPort(s), Dst: netip.MustParseAddrPort(d), Proto: proto}
	}
	e := conntrack.Entry{Orig: t(src, dst), Reply: t(rsrc, rdst), Status: conntrack.Confirmed | conntrack.SeenReply | conntrack.Assured}
	if proto == protoTCP {
		e.TCP = conntrack.TCPEstablished
	}
	return e
}

// F-11: what is taken over and given back is the connection that it was; what cannot be is left alone.
func TestThereAndBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    conntrack.Entry
		edit func(*conntrack.Entry)
		path bpf.FlowPath
		left bool // to the kernel
	}{
		{name: "out", e: entry(6, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:5000"), path: bpf.DatapathFlowPathPATH_OUT},
		{name: "out, another port", e: entry(17, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), path: bpf.DatapathFlowPathPATH_OUT},
		{name: "ping", e: entry(1, "172.17.0.2:7", "203.0.113.2:0", "203.0.113.2:0", "192.0.2.1:8"), path: bpf.DatapathFlowPathPATH_OUT},
		{name: "in", e: entry(17, "203.0.113.2:5000", "192.0.2.1:8080", "172.17.0.2:80", "203.0.113.2:5000"), path: bpf.DatapathFlowPathPATH_IN},
		{name: "hairpin", e: entry(17, "172.17.0.3:5000", "192.0.2.1:8080", "172.17.0.2:80", "172.17.0.3:5000"), path: bpf.DatapathFlowPathPATH_LOCAL},
		{name: "to itself", e: entry(17, "172.17.0.2:5000", "192.0.2.1:8080", "172.17.0.2:80", "172.17.0.1:5000"), path: bpf.DatapathFlowPathPATH_LOCAL},
		{name: "not answered", e: entry(17, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), path: bpf.DatapathFlowPathPATH_OUT,
			edit: func(e *conntrack.Entry) { e.Status = conntrack.Confirmed }},

		{name: "not translated", e: entry(17, "172.17.0.2:5000", "172.17.0.3:80", "172.17.0.3:80", "172.17.0.2:5000"), left: true},
		{name: "another bridge's", e: entry(17, "172.18.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true},
		{name: "nobody's", e: entry(17, "10.0.0.1:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true},
		{name: "published by no one", e: entry(17, "203.0.113.2:5000", "192.0.2.1:8081", "172.17.0.2:80", "203.0.113.2:5000"), left: true},
		{name: "published elsewhere", e: entry(17, "203.0.113.2:5000", "192.0.2.1:8080", "172.17.0.3:80", "203.0.113.2:5000"), left: true},
		{name: "source not the host's", e: entry(17, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.9:6000"), left: true},
		{name: "inbound, source hidden", e: entry(17, "203.0.113.2:5000", "192.0.2.1:8080", "172.17.0.2:80", "172.17.0.1:5000"), left: true},
		{name: "being opened", e: entry(6, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true,
			edit: func(e *conntrack.Entry) { e.TCP = conntrack.TCPSynSent }},
		{name: "helped", e: entry(6, "172.17.0.2:5000", "203.0.113.2:21", "203.0.113.2:21", "192.0.2.1:6000"), left: true,
			edit: func(e *conntrack.Entry) { e.Adjusted = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(&tt.e)
			}
			a, ok := world().Adopt(&tt.e)
			if ok == tt.left {
				t.Fatalf("adopted: %v", ok)
			}
			if !ok {
				return
			}
			if a.Flow.Path != tt.path || a.Reply.Path != tt.path {
				t.Errorf("paths %v and %v, want %v", a.Flow.Path, a.Reply.Path, tt.path)
			}
			cfg := bpf.Config{TcpEstablished: 1000, UdpStream: 1000, UdpNew: 1000, Icmp: 1000}
			row := &maps.FlowRow{Key: a.Key, Flow: a.Flow, New: a.Flow.Flags&flagAnswered == 0}
			back, ok := Entry(row, Clock{Now: 1500, Second: 100, Config: &cfg})
			if !ok {
				t.Fatal("not given back")
			}
			want := tt.e
			want.Timeout = 5 * time.Second
			if diff := cmp.Diff(want, back, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("given back: %s", diff)
			}
		})
	}
}
