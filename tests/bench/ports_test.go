package bench

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// firstPort is the first of many published ports; the container's are the same.
const firstPort = 20000

// TestPorts dials the first, the middle and the last of as many published ports as there are.
func TestPorts(t *testing.T) {
	m := newMeter(t)
	sizes := []int{1, 30}
	if *full {
		sizes = []int{1, 1_000, 10_000}
	}
	s := study{name: "ports", limit: "bare", workloads: []string{tcpRequests, connections}}
	limit, stock, tables, ours := bare(t, m).ends[published], map[way]ends{}, map[way]ends{}, map[way]ends{}
	limits := map[way]ends{}
	for _, n := range sizes {
		docker := suite.NewHost(t, lab.Default, "--userland-proxy=false")
		dialled(t, m, docker, n, stock, func(c *lab.Container) { dockerRules(t, docker, c, n) })
		nft := suite.NewHost(t, lab.Native)
		dialled(t, m, nft, n, tables, func(c *lab.Container) { dockerTables(t, nft, c, tcpPorts(n)) })
		h := suite.NewHost(t, lab.Native)
		dialled(t, m, h, n, ours, func(c *lab.Container) {
			in := h.Instance(t)
			in.Attach(t, "--bridge", lab.Bridge)
			in.Await(t, c)
			in.Run(t, "publish", portRange(n), c.Name)
		})
		for _, w := range portWays(n) {
			s.ways = append(s.ways, w.way)
			limits[w.way] = limit
			target := Target{Workloads: []string{connections}, Ways: ways(w.way), Peer: "ebpfnet", OfLimit: 0.95, Stock: "docker, no proxy", OfStock: 1}
			if n == 10_000 && w.port == firstPort+n-1 {
				target.OfStock = 10
			}
			s.targets = append(s.targets, target)
		}
	}
	s.peers = []peer{{"bare", limits}, {"docker, no proxy", stock}, {"docker, nftables", tables}, {"ebpfnet", ours}}
	s.run(t, m)
}

// portWay is a way to one of many published ports.
type portWay struct {
	way  way
	port int
}

func portWays(n int) []portWay {
	if n == 1 {
		return []portWay{{"1 port", firstPort}}
	}
	at := func(which string, i int) portWay {
		return portWay{way(fmt.Sprintf("%d ports, the %s", n, which)), firstPort + i}
	}
	return []portWay{at("first", 0), at("middle", n/2), at("last", n-1)}
}

// dialled adds the ways to n ports of a host, which publish makes lead to its container.
func dialled(t *testing.T, m meter, h *lab.Host, n int, to map[way]ends, publish func(*lab.Container)) {
	t.Helper()
	c := h.Run(t, "c")
	var served []int
	for _, w := range portWays(n) {
		served = append(served, w.port)
		to[w.way] = ends{h.Router, netip.AddrPortFrom(netip.MustParseAddr(lab.HostIP), uint16(w.port))}
	}
	m.serve(t, c.NS, served...)
	publish(c)
}

// portRange is how n ports are published at once.
func portRange(n int) string {
	if n == 1 {
		return fmt.Sprintf("%d:%[1]d/tcp", firstPort)
	}
	return fmt.Sprintf("%d-%d:%[1]d-%[2]d/tcp", firstPort, firstPort+n-1)
}

func tcpPorts(n int) []string {
	ports := make([]string, n)
	for i := range ports {
		ports[i] = fmt.Sprintf("tcp dport %d", firstPort+i)
	}
	return ports
}

// dockerRules adds to dockerd's rules what it adds for a container that publishes n ports. It would take minutes for what this loads at once.
func dockerRules(t *testing.T, h *lab.Host, c *lab.Container, n int) {
	t.Helper()
	var nat, filter strings.Builder
	nat.WriteString("*nat\n")
	filter.WriteString("*filter\n")
	for p := firstPort; p < firstPort+n; p++ {
		fmt.Fprintf(&nat, "-A DOCKER -p tcp -m tcp --dport %d -j DNAT --to-destination %s:%[1]d\n", p, c.IP)
		fmt.Fprintf(&nat, "-A POSTROUTING -s %s/32 -d %[1]s/32 -p tcp -m tcp --dport %d -j MASQUERADE\n", c.IP, p)
		fmt.Fprintf(&filter, "-A DOCKER -d %s/32 ! -i %s -o %[2]s -p tcp -m tcp --dport %d -j ACCEPT\n", c.IP, lab.Bridge, p)
	}
	load(t, h.NS, nat.String()+"COMMIT\n"+filter.String()+"COMMIT\n", "iptables-restore", "--noflush")
}
