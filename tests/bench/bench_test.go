package bench

import (
	"flag"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

var (
	rounds   = flag.Int("bench-rounds", 1, "rounds of the benchmark")
	duration = flag.Duration("bench-time", 10*time.Millisecond, "how long each workload runs on each peer in a round")
	results  = flag.String("bench-results", "", "write tables, samples and pictures into this folder")
	full     = flag.Bool("bench-full", false, "as many ports, endpoints and containers as docs/performance.md speaks of")
	only     = flag.String("bench-workloads", ".", "only workloads whose name matches this")
)

// The workloads of the meter, and one of four streams at once.
const (
	tcpRequests = "tcp_rr"
	udpRequests = "udp_rr"
	connections = "crr"
	datagrams   = "udp_pps"
	oneStream   = "stream"
	manyStreams = "streams"
	// apart is what the first three are called where each end has a processor of its own, which is idle while it waits.
	apart = ", apart"
)

// TestPaths measures every workload on every way of every peer on one host. By itself it only shows that all of it works, as each test here;
// `make bench` gives it time.
func TestPaths(t *testing.T) {
	m := newMeter(t)
	study{
		name: "paths", limit: "bare", least: "redirects alone",
		workloads: []string{
			tcpRequests, udpRequests, connections, tcpRequests + apart, udpRequests + apart, connections + apart,
			datagrams, oneStream, manyStreams,
		},
		ways:    []way{local, published, masquerade, fromHost},
		targets: pathTargets,
		peers: []peer{
			bare(t, m),
			bridge(t, m),
			plainRouting(t, m),
			redirects(t, m),
			docker(t, m, "docker", lab.Default, nil, nil),
			docker(t, m, "docker, no proxy", lab.Default, []string{"--userland-proxy=false"}, nil),
			nftables(t, m),
			docker(t, m, "ebpfnet", lab.Native, nil, []string{}),
			docker(t, m, "ebpfnet over docker", lab.Default, nil, []string{}),
			docker(t, m, "ebpfnet offload", lab.Default, nil, []string{"--mode", "offload"}),
		},
	}.run(t, m)
}

// pathTargets are for a host that ebpfnet alone translates on, beside stock Docker.
var pathTargets = []Target{
	{Workloads: together(tcpRequests, udpRequests, connections), Ways: ways(local), Peer: "ebpfnet", OfLimit: 0.98, Stock: "docker", OfStock: 1, Percentile: true},
	{Workloads: together(tcpRequests, udpRequests), Ways: ways(published, masquerade), Peer: "ebpfnet", OfLimit: 0.97, Stock: "docker", OfStock: 1, Percentile: true},
	{Workloads: together(connections), Ways: ways(published, masquerade), Peer: "ebpfnet", OfLimit: 0.97, Stock: "docker", OfStock: 1},
	{Workloads: []string{tcpRequests, udpRequests}, Ways: ways(published, masquerade), Peer: "ebpfnet", OfLimit: 1.05, Stock: "docker", OfStock: 0.8, CPU: true},
	{Workloads: []string{datagrams}, Ways: ways(published, masquerade), Peer: "ebpfnet", OfLimit: 0.92, Stock: "docker", OfStock: 1.3},
	{Workloads: []string{oneStream, manyStreams}, Ways: ways(local, published, masquerade, fromHost), Peer: "ebpfnet", OfLimit: 0.98, Stock: "docker", OfStock: 1},
}

// together are workloads as they are asked for on one processor and on two.
func together(workloads ...string) []string {
	both := workloads
	for _, w := range workloads {
		both = append(both, w+apart)
	}
	return both
}

func ways(all ...way) []string {
	names := make([]string, len(all))
	for i, w := range all {
		names[i] = string(w)
	}
	return names
}
