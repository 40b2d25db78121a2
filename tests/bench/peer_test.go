package bench

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// The ways on one host.
const (
	local      way = "container to container"
	published  way = "published port from outside"
	masquerade way = "container to outside"
	fromHost   way = "host to container"
)

func at(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }

// pairOf connects two namespaces directly: 10.0.0.1 and 10.0.0.2.
func pairOf(t *testing.T, a, b *lab.Netns) {
	t.Helper()
	a.IP(t, "link add eth0 type veth peer name eth0 netns "+b.Name)
	for i, ns := range []*lab.Netns{a, b} {
		ns.IP(t, fmt.Sprintf("addr add 10.0.0.%d/24 dev eth0", i+1))
		ns.IP(t, "link set eth0 up")
	}
}

// bare is the limit: a veth pair between two namespaces, and a process on the host instead of a container. Outside is the machine at the other
// end of the uplink.
func bare(t *testing.T, m meter) peer {
	h := suite.NewHost(t, lab.Native)
	a, b := h.Machine(t, "a"), h.Machine(t, "b")
	pairOf(t, a, b)
	for _, ns := range []*lab.Netns{b, h.NS, h.Router} {
		m.serve(t, ns)
	}
	return peer{"bare", map[way]ends{
		local:      {a, at("10.0.0.2")},
		published:  {h.Router, at(lab.HostIP)},
		masquerade: {h.NS, at(lab.RouterIP)},
		fromHost:   {a, at("10.0.0.2")},
	}}
}

// bridge is a Linux bridge that no netfilter looks at.
func bridge(t *testing.T, m meter) peer {
	h := suite.NewHost(t, lab.Native)
	h.NS.IP(t, "link add plain type bridge")
	h.NS.IP(t, "addr add 10.0.0.254/24 dev plain")
	h.NS.IP(t, "link set plain up")
	var machines []*lab.Netns
	for i := range 2 {
		c := h.Machine(t, "m")
		h.NS.IP(t, fmt.Sprintf("link add p%d type veth peer name eth0 netns %s", i, c.Name))
		h.NS.IP(t, fmt.Sprintf("link set p%d master plain up", i))
		c.IP(t, fmt.Sprintf("addr add 10.0.0.%d/24 dev eth0", i+1))
		c.IP(t, "link set eth0 up")
		machines = append(machines, c)
	}
	m.serve(t, machines[1])
	return peer{"bridge", map[way]ends{local: {machines[0], at("10.0.0.2")}, fromHost: {h.NS, at("10.0.0.2")}}}
}

// plainRouting is a host that forwards for a container without a bridge, rules or translation: outside knows the way to it. What is lost
// against the limit here is what a second device on the way costs.
func plainRouting(t *testing.T, m meter) peer {
	h := suite.NewHost(t, lab.Native)
	c := h.Machine(t, "c")
	h.NS.IP(t, "link add v0 type veth peer name eth0 netns "+c.Name)
	h.NS.IP(t, "addr add 10.0.0.254/24 dev v0")
	h.NS.IP(t, "link set v0 up")
	c.IP(t, "addr add 10.0.0.1/24 dev eth0")
	c.IP(t, "link set eth0 up")
	c.IP(t, "route add default via 10.0.0.254")
	h.Router.IP(t, "route add 10.0.0.0/24 via "+lab.HostIP)
	h.NS.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for _, ns := range []*lab.Netns{c, h.Router} {
		m.serve(t, ns)
	}
	return peer{"plain routing", map[way]ends{published: {h.Router, at("10.0.0.1")}, masquerade: {c, at(lab.RouterIP)}}}
}

// docker is a host with dockerd, and with ebpfnet where attach says how.
func docker(t *testing.T, m meter, name string, w lab.World, flags, attach []string) peer {
	h := suite.NewHost(t, w, flags...)
	a, b := h.Run(t, "a"), h.Run(t, "b", "--publish", "7000:7000", "--publish", "7000:7000/udp", "--publish", "7001:7001/udp")
	if attach != nil {
		in := h.Instance(t)
		in.Attach(t, append([]string{"--bridge", lab.Bridge}, attach...)...)
		in.Await(t, a)
		in.Await(t, b)
	}
	return served(t, m, name, h, a, b)
}

// nftables is a host whose dockerd writes no rules, with rules equal to what newer engines write instead.
func nftables(t *testing.T, m meter) peer {
	h := suite.NewHost(t, lab.Native)
	a, b := h.Run(t, "a"), h.Run(t, "b")
	dockerTables(t, h, b, []string{"tcp dport 7000", "udp dport 7000", "udp dport 7001"})
	return served(t, m, "docker, nftables", h, a, b)
}

// served is a peer of two containers, the second of which is published.
func served(t *testing.T, m meter, name string, h *lab.Host, a, b *lab.Container) peer {
	for _, ns := range []*lab.Netns{b.NS, h.Router} {
		m.serve(t, ns)
	}
	return peer{name, map[way]ends{
		local:      {a.NS, at(b.IP.String())},
		published:  {h.Router, at(lab.HostIP)},
		masquerade: {a.NS, at(lab.RouterIP)},
		fromHost:   {h.NS, at(b.IP.String())},
	}}
}

// dockerTables loads what a dockerd with the nftables backend has for its default bridge and a container that publishes these ports: base
// chains that jump by device, and for each port a rule that translates and one that lets it in.
func dockerTables(t *testing.T, h *lab.Host, c *lab.Container, ports []string) {
	t.Helper()
	var dnat, accept strings.Builder
	for _, p := range ports {
		number := p[strings.LastIndex(p, " ")+1:]
		fmt.Fprintf(&dnat, "add rule ip docker-bridges nat-prerouting-and-output %s counter dnat to %s:%s\n", p, c.IP, number)
		fmt.Fprintf(&accept, "add rule ip docker-bridges filter-forward-in__docker0 ip daddr %s %s counter accept\n", c.IP, p)
	}
	rules := `add table ip docker-bridges
add map ip docker-bridges filter-forward-in-jumps { type ifname : verdict ; }
add map ip docker-bridges filter-forward-out-jumps { type ifname : verdict ; }
add map ip docker-bridges nat-postrouting-in-jumps { type ifname : verdict ; }
add map ip docker-bridges nat-postrouting-out-jumps { type ifname : verdict ; }
add chain ip docker-bridges filter-forward-in__docker0
add chain ip docker-bridges filter-forward-out__docker0
add chain ip docker-bridges nat-postrouting-in__docker0
add chain ip docker-bridges nat-postrouting-out__docker0
add chain ip docker-bridges nat-prerouting-and-output
add chain ip docker-bridges filter-FORWARD { type filter hook forward priority filter ; policy accept ; }
add chain ip docker-bridges nat-PREROUTING { type nat hook prerouting priority dstnat ; policy accept ; }
add chain ip docker-bridges nat-OUTPUT { type nat hook output priority -100 ; policy accept ; }
add chain ip docker-bridges nat-POSTROUTING { type nat hook postrouting priority srcnat ; policy accept ; }
add chain ip docker-bridges raw-PREROUTING { type filter hook prerouting priority raw ; policy accept ; }
add rule ip docker-bridges filter-FORWARD oifname vmap @filter-forward-in-jumps
add rule ip docker-bridges filter-FORWARD iifname vmap @filter-forward-out-jumps
add rule ip docker-bridges nat-PREROUTING fib daddr type local counter jump nat-prerouting-and-output
add rule ip docker-bridges nat-OUTPUT ip daddr != 127.0.0.0/8 fib daddr type local counter jump nat-prerouting-and-output
add rule ip docker-bridges nat-POSTROUTING iifname vmap @nat-postrouting-out-jumps
add rule ip docker-bridges nat-POSTROUTING oifname vmap @nat-postrouting-in-jumps
add element ip docker-bridges filter-forward-in-jumps { docker0 : jump filter-forward-in__docker0 }
add element ip docker-bridges filter-forward-out-jumps { docker0 : jump filter-forward-out__docker0 }
add element ip docker-bridges nat-postrouting-in-jumps { docker0 : jump nat-postrouting-in__docker0 }
add element ip docker-bridges nat-postrouting-out-jumps { docker0 : jump nat-postrouting-out__docker0 }
add rule ip docker-bridges raw-PREROUTING ip daddr ` + c.IP.String() + ` iifname != docker0 counter drop
add rule ip docker-bridges filter-forward-in__docker0 ct state established,related counter accept
add rule ip docker-bridges filter-forward-in__docker0 iifname docker0 counter accept
` + accept.String() + `add rule ip docker-bridges filter-forward-in__docker0 iifname != docker0 counter drop
add rule ip docker-bridges filter-forward-out__docker0 ct state established,related counter accept
add rule ip docker-bridges filter-forward-out__docker0 counter accept
add rule ip docker-bridges nat-postrouting-out__docker0 oifname != docker0 ip saddr ` + lab.BridgeNet + ` counter masquerade
` + dnat.String()
	load(t, h.NS, rules, "nft", "--file", "-")
}

// load has a program in a namespace read a text.
func load(t *testing.T, ns *lab.Netns, text, name string, args ...string) {
	t.Helper()
	cmd := ns.Command(context.Background(), name, args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
