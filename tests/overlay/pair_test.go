package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// The networks that the tests configure. A host takes its subnet from the middle of one: below and above are records that a test writes by hand,
// and addresses that nobody has.
const (
	network = `{"Network":"10.200.0.0/16","SubnetMin":"10.200.128.0","SubnetMax":"10.200.239.0"`
	vxlan   = network + `,"Backend":{"Type":"vxlan"}}`
	hostGW  = network + `,"Backend":{"Type":"host-gw"}}`
	udp     = network + `}`
)

// settled is how long the hosts may take to know of each other on a busy machine.
const settled = 20 * time.Second

// pair is two hosts that know of each other, with a container each.
type pair struct {
	segment *lab.Segment
	hosts   [2]*lab.Member
	c       [2]*lab.Container
	subnets [2]netip.Prefix
}

// newPair makes two hosts in a network of that configuration. Flags are the agents'.
func newPair(t *testing.T, w lab.World, config string, flags ...string) *pair {
	t.Helper()
	p := &pair{segment: suite.NewSegment(t, w)}
	p.segment.StartEtcd(t)
	p.segment.Etcdctl(t, "put", lab.NetworkKey, config)
	for i := range p.hosts {
		p.hosts[i] = p.segment.Join(t, flags...)
		p.subnets[i] = netip.MustParsePrefix(p.hosts[i].Subnet(t)["FLANNEL_SUBNET"]).Masked()
	}
	p.complete(t)
	return p
}

// complete waits until the hosts know of each other, and starts a container on each.
func (p *pair) complete(t *testing.T) {
	t.Helper()
	for i, h := range p.hosts {
		awaitPeer(t, h, p.subnets[1-i], p.hosts[1-i].IP)
		p.c[i] = h.Host.Run(t, fmt.Sprintf("c%d", i), "--publish", "8080:80")
		h.Await(t, p.c[i])
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range p.hosts {
				h.Report(t)
			}
		}
	})
}

// awaitPeer waits until a host has one other host for a subnet, and it is reached at that address.
func awaitPeer(t *testing.T, h *lab.Member, subnet netip.Prefix, via string) api.Peer {
	t.Helper()
	var found api.Peer
	lab.Eventually(t, settled, func() error {
		var all []api.Peer
		h.JSON(t, &all, "peer", "list")
		n := 0
		for _, peer := range all {
			if peer.Subnet == subnet.String() {
				found = peer
				n++
			}
		}
		if n != 1 || found.Via != via {
			return fmt.Errorf("%s by %s is not what %s knows: %v", subnet, via, h.IP, all)
		}
		return nil
	})
	return found
}

// network is the address that stands for a host itself among the others' containers.
func (p *pair) network(host int) string { return p.subnets[host].Addr().String() }

// outer keeps the VXLAN packets of a capture, with what each carries.
func outer(c *lab.Capture) []lab.Packet {
	return c.All(inVXLAN)
}
