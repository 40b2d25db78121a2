package parity

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// patience is how long a client waits before it calls what it hears silence. It is paid by each case that ends in silence, but they wait
// side by side; and it is long, because a slow answer must not pass for none.
const patience = 6 * time.Second

// Ports of servers, and addresses that routes of the host refuse.
const (
	farPort   = 7000 // of far, over TCP and UDP
	hostPort  = 7001 // of the host itself
	reachless = "203.0.113.201"
	forbidden = "203.0.113.202"
	swallowed = "203.0.113.203"
	nobody    = "192.0.2.77"
	otherNet  = "10.65.1.0/24"
	otherGate = "10.65.1.1"
	innerNet  = "10.65.2.0/24"
	innerGate = "10.65.2.1"
	apartNet  = "10.65.3.0/24"
	apartGate = "10.65.3.1"
)

// site is one column's host, with what all cases find on it.
type site struct {
	*lab.Host
	column Column
	in     *lab.Instance // nil where ebpfnet is not on it

	other, inner, apart string // networks: one more, an internal one, one without inter-container communication

	web, a, b        *lab.Container // on docker0; web has published ports
	split            *lab.Container // its UDP port has the number of a TCP port of web's
	stranger, friend *lab.Container // on other
	innerA, innerB   *lab.Container // on inner
	apartA, apartB   *lab.Container // on apart; apartA has a published port
	dual             *lab.Container // on docker0 and on other, with a published port

	mu    sync.Mutex // of names
	names map[netip.Addr]string
	ports atomic.Int32
}

// build makes a column's host. guards are commands that put up rules before ebpfnet is there, nft's in one word behind its name.
func build(t *testing.T, column Column, guards ...string) *site {
	t.Helper()
	world, flags := lab.Default, []string(nil)
	switch column {
	case NoProxy:
		flags = []string{"--userland-proxy=false"}
	case Alone:
		world = lab.Native
	}
	s := &site{Host: suite.NewHost(t, world, flags...), column: column}
	s.names = map[netip.Addr]string{}
	for ip, name := range map[string]string{
		lab.HostIP: "host", lab.HostIP1: "host1", lab.GatewayIP: "gateway", lab.RouterIP: "router", lab.RouterIP1: "router1",
		lab.RemoteIP: "far", lab.RemoteIP2: "far2", lab.RemoteBy1: "far by host1", "203.0.113.254": "router", "127.0.0.1": "loopback", "192.0.2.9": "host's second",
		otherGate: "gateway of other", innerGate: "gateway of inner", apartGate: "gateway of apart",
	} {
		s.names[netip.MustParseAddr(ip)] = name
	}
	for _, ns := range []*lab.Netns{s.NS, s.Router, s.Remote} {
		talkative(t, ns)
	}
	s.NS.IP(t, "route add unreachable "+reachless)
	s.NS.IP(t, "route add prohibit "+forbidden)
	s.NS.IP(t, "route add blackhole "+swallowed)
	s.Remote.Serve(t, "far", fmt.Sprintf(":%d", farPort))
	s.NS.Serve(t, "host", fmt.Sprintf(":%d", hostPort))
	s.other = s.Network(t, "other", "--subnet", otherNet)
	s.inner = s.Network(t, "inner", "--subnet", innerNet, "--internal")
	s.apart = s.Network(t, "apart", "--subnet", apartNet, "--opt", "com.docker.network.bridge.enable_icc=false")
	for _, g := range guards {
		tool, rest, _ := strings.Cut(g, " ")
		if tool == "nft" {
			s.NS.Run(t, tool, rest)
			continue
		}
		s.NS.Run(t, tool, strings.Fields(rest)...)
	}
	if column == Over || column == Alone {
		s.in = s.Instance(t)
		attach := []string{"--all", "--uplink", "up0", "--uplink", "up1"}
		if len(guards) > 0 {
			attach = append(attach, "--allow-spoofing") // the guards say who may send what
		}
		s.in.Attach(t, attach...)
		t.Cleanup(func() {
			if t.Failed() {
				s.in.Report(t)
			}
		})
	}
	// The clients of published ports outside reach the containers' networks by way of the host, if it lets them.
	s.Router.IP(t, "route add "+lab.BridgeNet+" via "+lab.HostIP)
	s.Router.IP(t, "route add "+innerNet+" via "+lab.HostIP)
	s.web = s.Run(t, "web", append(publish("8080:80", "8080:80/udp", "8082:4444", "8082:4444/udp", lab.HostIP+":8083:80", lab.HostIP+":8083:80/udp",
		"127.0.0.1:8084:80", "127.0.0.1:8084:80/udp", "8300:80/tcp", "20000-20003:9000-9003/udp", "20000-20003:9000-9003"),
		"--", "/bin/probe", "serve", "-name", "web", "-tcp", "80,81,9000-9003", "-udp", "80,81,9000-9003")...)
	s.a, s.b = s.Run(t, "a"), s.Run(t, "b")
	s.split = s.Run(t, "split", publish("8300:80/udp", lab.HostIP1+":8083:80", lab.HostIP1+":8083:80/udp")...)
	s.stranger = s.Run(t, "stranger", append(publish("8086:80", "8086:80/udp"), "--network", s.other)...)
	s.friend = s.Run(t, "friend", "--network", s.other)
	s.innerA, s.innerB = s.Run(t, "innerA", "--network", s.inner), s.Run(t, "innerB", "--network", s.inner)
	s.innerB.NS.IP(t, "route replace default via "+innerGate)
	s.apartA = s.Run(t, "apartA", append(publish("8087:80", "8087:80/udp"), "--network", s.apart)...)
	s.apartB = s.Run(t, "apartB", "--network", s.apart)
	s.dual = s.Host.Run(t, "dual", publish("8088:80", "8088:80/udp")...)
	s.Docker(t, "network", "connect", s.other, s.dual.ID)
	s.dual.Refresh(t)
	s.await(t, s.dual, "dual")
	return s
}

// publish makes Docker's flags.
func publish(ports ...string) (flags []string) {
	for _, p := range ports {
		flags = append(flags, "-p", p)
	}
	return flags
}

// Run starts a container, and waits until ebpfnet, where it is there, knows it.
func (s *site) Run(t testing.TB, name string, args ...string) *lab.Container {
	t.Helper()
	c := s.Host.Run(t, name, args...)
	talkative(t, c.NS)
	s.await(t, c, name)
	return c
}

// talkative lets a stack serve many cases at once: by default it sends one ICMP error a second to an address, and gives a datagram up when
// more than 64 fragments of others have come from its sender in between.
func talkative(t testing.TB, ns *lab.Netns) {
	t.Helper()
	ns.Run(t, "sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000", "net.ipv4.icmp_msgs_burst=10000",
		"net.ipv4.ipfrag_max_dist=0")
}

// await gives a container's addresses its name, and waits until ebpfnet knows it.
func (s *site) await(t testing.TB, c *lab.Container, name string) {
	t.Helper()
	if s.in != nil {
		s.in.Await(t, c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ip := range c.IPs {
		s.names[ip] = name
	}
}

// address is how the table names an address.
func (s *site) address(ip netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.names[ip.Unmap()]; ok {
		return name
	}
	return ip.String()
}

// name gives an address its name in the table.
func (s *site) name(ip, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[netip.MustParseAddr(ip)] = name
}

// port is a source port that no other case of the column uses, below those that the kernel hands out: no two flows meet by chance.
func (s *site) port() int { return 10100 + int(s.ports.Add(1)) }

// gate is the link-layer address that a container on docker0 sends to.
func (s *site) gate(t testing.TB) []byte { return s.NS.Device(t, lab.Bridge).HardwareAddr }

// version is Docker's, without its last part.
func (s *site) version(t testing.TB) string {
	t.Helper()
	parts := strings.SplitN(s.Docker(t, "version", "--format", "{{.Server.Version}}"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
