package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
)

// A flow is shown as it is sent and as it is translated.
func TestFlows(t *testing.T) {
	addr := func(s string) uint32 { return bpf.Addr(netip.MustParseAddr(s)) }
	l := newLab(t, dockerHost())
	l.flows = []maps.FlowRow{
		{
			Key: bpf.FlowKey{Saddr: addr("172.17.0.2"), Daddr: addr("198.51.100.7"), Sport: bpf.Port(40000), Dport: bpf.Port(443), Proto: 6,
				Zone: bpf.DatapathZoneZONE_LOCAL},
			Flow: bpf.Flow{Saddr: addr("192.0.2.10"), Daddr: addr("198.51.100.7"), Sport: bpf.Port(40001), Dport: bpf.Port(443),
				Path: bpf.DatapathFlowPathPATH_OUT, SrcId: 1, Created: 500, Seen: 900, Packets: 10, Bytes: 1000},
			Reply: &bpf.Flow{Packets: 5, Bytes: 5000},
		},
		{Key: bpf.FlowKey{Saddr: addr("198.51.100.8"), Daddr: addr("192.0.2.10"), Proto: 17}, Flow: bpf.Flow{DstId: 2}, New: true},
	}
	l.start(false)
	if flows, err := l.client.Flows(t.Context(), "", ""); err != nil || len(flows) != 0 {
		t.Fatalf("before attaching: %v, %v", flows, err)
	}
	l.attach("docker0")
	got, err := l.client.Flows(t.Context(), "web", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	want := []api.Flow{{
		Proto: "tcp", State: "established", Container: "web",
		Original:   api.Tuple{Source: "172.17.0.2", SourcePort: 40000, Destination: "198.51.100.7", DestinationPort: 443},
		Translated: api.Tuple{Source: "192.0.2.10", SourcePort: 40001, Destination: "198.51.100.7", DestinationPort: 443},
		Packets:    15, Bytes: 6000, Reply: api.Traffic{Packets: 5, Bytes: 5000}, Age: 5, Idle: 1,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		container, proto string
		want             int
	}{{"", "", 2}, {"", "udp", 1}, {"web", "udp", 0}, {"172.17.0.2", "", 1}, {"", "sctp", 0}} {
		if got, err := l.client.Flows(t.Context(), tt.container, tt.proto); err != nil || len(got) != tt.want {
			t.Errorf("flows of %q, %q: %d, %v, want %d", tt.container, tt.proto, len(got), err, tt.want)
		}
	}
	if _, err := l.client.Flows(t.Context(), "nobody", ""); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("flows of nobody: %v", err)
	}
}

// L-4: what the tables hold, and the walks over them, are shown.
func TestMetricsView(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	if v := l.agent.MetricsView(); v.Counters != nil || len(v.Endpoints) != 0 {
		t.Errorf("before attaching: %+v", v)
	}
	l.attach("docker0")
	if _, err := l.publish("20000-20009:80-89/udp", "web"); err != nil {
		t.Fatal(err)
	}
	if err := l.agent.sweepOnce(); err != nil {
		t.Fatal(err)
	}
	v := l.agent.MetricsView()
	want := metrics.View{
		Bridges:         []metrics.Bridge{{Name: "docker0", Mode: "native"}},
		Endpoints:       []metrics.Endpoint{{Container: "web", Bridge: "docker0"}},
		Ports:           10,
		Flows:           []metrics.FlowCount{{Proto: "tcp", State: "established", Count: 2}},
		Maps:            []metrics.MapFill{{Name: "veths", Entries: 1, Capacity: 100}},
		DockerConnected: true,
		Published:       []metrics.Published{{Spec: "20000-20009:80-89/udp", Container: "web", Proto: "udp", Slot: 1}},
	}
	c := v.Counters
	if v.Sweeps != 1 || v.SweepTime <= 0 {
		t.Errorf("%d walks in %v, want one", v.Sweeps, v.SweepTime)
	}
	v.Counters, v.Sweeps, v.SweepTime = nil, 0, 0
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	// A scrape that is under way when the datapath goes ends in an error, not in a crash.
	if err := l.client.Detach(t.Context(), api.DetachRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EndpointStats(0); err == nil {
		t.Error("counters of a datapath that is gone were read")
	}
}
