package bench

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// across is the one way between hosts: from a container to another host's, or from host to host for the limit.
const across way = "across hosts"

// TestAcross measures between containers of two hosts on one segment. The limit is a process on either host.
func TestAcross(t *testing.T) {
	m := newMeter(t)
	study{
		name: "across", limit: "underlay",
		workloads: []string{
			tcpRequests, udpRequests, connections, tcpRequests + apart, udpRequests + apart, connections + apart, datagrams, oneStream,
		},
		ways:    []way{across},
		targets: acrossTargets,
		peers: []peer{
			underlay(t, m),
			kernelVXLAN(t, m),
			tunProcess(t, m),
			overlay(t, m, "ebpfnet vxlan", `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`),
			overlay(t, m, "ebpfnet host-gw", `{"Network":"10.200.0.0/16","Backend":{"Type":"host-gw"}}`),
			overlay(t, m, "ebpfnet udp", `{"Network":"10.200.0.0/16"}`),
		},
	}.run(t, m)
}

var acrossTargets = []Target{
	acrossTarget("ebpfnet vxlan", 0.80, "kernel vxlan", 1.2, together(tcpRequests, udpRequests)...),
	acrossTarget("ebpfnet vxlan", 0.78, "kernel vxlan", 1.2, together(connections)...),
	acrossTarget("ebpfnet vxlan", 0.60, "kernel vxlan", 1.2, datagrams),
	acrossTarget("ebpfnet host-gw", 0.85, "kernel vxlan", 1, together(tcpRequests, udpRequests)...),
	acrossTarget("ebpfnet host-gw", 0.80, "kernel vxlan", 1, together(connections)...),
	acrossTarget("ebpfnet host-gw", 0.75, "kernel vxlan", 1, datagrams),
	acrossTarget("ebpfnet udp", 0, "ebpfnet vxlan", 0.9, append(together(tcpRequests, udpRequests, connections), datagrams, oneStream)...),
	acrossTarget("ebpfnet udp", 0, "tun and a process", 20, oneStream),
}

func acrossTarget(peer string, ofLimit float64, stock string, ofStock float64, workloads ...string) Target {
	return Target{Workloads: workloads, Ways: ways(across), Peer: peer, OfLimit: ofLimit, Stock: stock, OfStock: ofStock}
}

func between(name string, from *lab.Netns, to netip.Addr) peer {
	return peer{name, map[way]ends{across: {from, netip.AddrPortFrom(to, port)}}}
}

func underlay(t *testing.T, m meter) peer {
	g := suite.NewSegment(t, lab.Native)
	a, b := g.Add(t), g.Add(t)
	m.serve(t, b.NS)
	return between("underlay", a.NS, netip.MustParseAddr(b.IP))
}

// overlay is two hosts of ours in a network of that configuration.
func overlay(t *testing.T, m meter, name, config string) peer {
	g := suite.NewSegment(t, lab.Native)
	g.StartEtcd(t)
	g.Etcdctl(t, "put", lab.NetworkKey, config)
	a, b := g.Join(t), g.Join(t)
	ca, cb := a.Host.Run(t, "a"), b.Host.Run(t, "b")
	a.Await(t, ca)
	b.Await(t, cb)
	m.serve(t, cb.NS)
	return between(name, ca.NS, cb.IP)
}

// kernelVXLAN is what flanneld sets up: stock Docker's bridge and rules, a VXLAN device, and a route, a neighbour and a forwarding entry for
// the other host.
func kernelVXLAN(t *testing.T, m meter) peer {
	const mac = "02:00:00:00:00:%02d"
	return routed(t, m, "kernel vxlan", 1450, func(i int, h, other *lab.Member) {
		them := fmt.Sprintf("10.200.%d", 2-i)
		h.NS.IP(t, "link add vx0 type vxlan id 1 dev "+lab.SegmentDevice+" local "+h.IP+" dstport 8472 nolearning")
		h.NS.IP(t, fmt.Sprintf("link set vx0 address "+mac+" mtu 1450 up", i+1))
		h.NS.IP(t, fmt.Sprintf("addr add 10.200.%d.0/32 dev vx0", i+1))
		h.NS.IP(t, "route add "+them+".0/24 via "+them+".0 dev vx0 onlink")
		h.NS.IP(t, fmt.Sprintf("neigh add %s.0 lladdr "+mac+" dev vx0 nud permanent", them, 2-i))
		h.NS.Run(t, "bridge", "fdb", "append", fmt.Sprintf(mac, 2-i), "dev", "vx0", "dst", other.IP)
	})
}

// tunProcess is a process on each host that reads packets from a TUN device and sends them to the other as datagrams.
func tunProcess(t *testing.T, m meter) peer {
	return routed(t, m, "tun and a process", 1472, func(i int, h, other *lab.Member) {
		m.start(t, h.NS, serverCPU+","+otherCPU, "tun", "tun0", h.IP+":8285", other.IP+":8285")
		lab.Eventually(t, lab.Patience, func() error {
			_, err := h.NS.TryRun("ip", "link", "set", "tun0", "mtu", "1472", "up")
			return err
		})
		h.NS.IP(t, fmt.Sprintf("route add 10.200.%d.0/24 dev tun0 src 10.200.%d.1", 2-i, i+1))
	})
}

// routed is two hosts with stock Docker, whose containers keep their addresses among each other, and what connect makes between them.
func routed(t *testing.T, m meter, name string, mtu int, connect func(i int, h, other *lab.Member)) peer {
	g := suite.NewSegment(t, lab.Default)
	hosts := [2]*lab.Member{g.Add(t), g.Add(t)}
	var c [2]*lab.Container
	for i, h := range hosts {
		h.Begin(t, "--bip", fmt.Sprintf("10.200.%d.1/24", i+1), "--mtu", fmt.Sprint(mtu), "--ip-masq=false")
		h.NS.Run(t, "iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.200.0.0/16", "!", "-d", "10.200.0.0/16", "-j", "MASQUERADE")
		h.NS.Run(t, "iptables", "-A", "FORWARD", "-s", "10.200.0.0/16", "-j", "ACCEPT")
		h.NS.Run(t, "iptables", "-A", "FORWARD", "-d", "10.200.0.0/16", "-j", "ACCEPT")
		c[i] = h.Host.Run(t, "c")
		connect(i, h, hosts[1-i])
	}
	m.serve(t, c[1].NS)
	return between(name, c[0].NS, c[1].IP)
}
