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
		name: "paths", limit: "bare",
		workloads: []string{
			tcpRequests, udpRequests, connections, tcpRequests + apart, udpRequests + apart, connections + apart,
			datagrams, oneStream, manyStreams,
		},
		ways: []way{local, published, masquerade, fromHost},
		peers: []peer{
			bare(t, m),
			bridge(t, m),
			plainRouting(t, m),
			docker(t, m, "docker", lab.Default, nil, nil),
			docker(t, m, "docker, no proxy", lab.Default, []string{"--userland-proxy=false"}, nil),
			nftables(t, m),
			docker(t, m, "ebpfnet", lab.Native, nil, []string{}),
			docker(t, m, "ebpfnet over docker", lab.Default, nil, []string{}),
			docker(t, m, "ebpfnet offload", lab.Default, nil, []string{"--mode", "offload"}),
		},
	}.run(t, m)
}
