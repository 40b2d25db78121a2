package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// TestEndpoints measures between two containers, and to one from outside, beside so many others on their bridge.
func TestEndpoints(t *testing.T) {
	m := newMeter(t)
	sizes := []int{10, 20}
	if *full {
		sizes = []int{10, 100, 1_000}
	}
	s := study{name: "endpoints", limit: "bare", workloads: []string{tcpRequests, connections}}
	limit, limits, stock, ours := bare(t, m), map[way]ends{}, map[way]ends{}, map[way]ends{}
	for _, n := range sizes {
		docker, ebpfnet := crowded(t, m, n, lab.Default, false), crowded(t, m, n, lab.Native, true)
		for _, w := range []way{local, published} {
			among := way(fmt.Sprintf("%s, %d endpoints", w, n))
			s.ways = append(s.ways, among)
			limits[among], stock[among], ours[among] = limit.ends[w], docker.ends[w], ebpfnet.ends[w]
		}
	}
	s.peers = []peer{{"bare", limits}, {"docker", stock}, {"ebpfnet", ours}}
	s.run(t, m)
}

// crowded is a host with two containers and n other endpoints on their bridge.
func crowded(t *testing.T, m meter, n int, w lab.World, attach bool) peer {
	t.Helper()
	h := suite.NewHost(t, w)
	a, b := h.Run(t, "a"), h.Run(t, "b", "--publish", "7000:7000")
	var in *lab.Instance
	if attach {
		in = h.Instance(t)
		in.Attach(t, "--bridge", lab.Bridge)
	}
	// They come after the instance, and go before it.
	crowd(t, h, n)
	if attach {
		awaitEndpoints(t, in, n+2)
	}
	return served(t, m, "", h, a, b)
}

// crowd puts n endpoints on a host's bridge, which are one namespace's devices.
func crowd(t *testing.T, h *lab.Host, n int) {
	t.Helper()
	crowd := h.Machine(t, "crowd")
	// As in Docker's containers. A thousand neighbours that announce themselves to each other would be what is measured.
	for _, ns := range []*lab.Netns{h.NS, crowd} {
		ns.SetSysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	}
	var host, there strings.Builder
	for i := range n {
		fmt.Fprintf(&host, "link add v%d type veth peer name e%[1]d netns %s\nlink set v%[1]d master %[3]s up\n", i, crowd.Name, lab.Bridge)
		fmt.Fprintf(&there, "addr add 172.17.%d.%d/16 dev e%d\nlink set e%[3]d up\n", 100+i/250, 1+i%250, i)
	}
	load(t, h.NS, host.String(), "ip", "-batch", "-")
	load(t, crowd, there.String(), "ip", "-batch", "-")
}

// awaitEndpoints waits until an instance knows at least n.
func awaitEndpoints(t *testing.T, in *lab.Instance, n int) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		var all []api.Endpoint
		in.JSON(t, &all, "endpoint", "list")
		if len(all) < n {
			return fmt.Errorf("%d endpoints, want %d", len(all), n)
		}
		return nil
	})
}
