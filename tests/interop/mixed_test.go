package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// settled is how long the hosts may take to know of each other on a busy machine.
const settled = 30 * time.Second

// site is a host of either kind, with a container.
type site struct {
	*lab.Host
	ip      string
	subnet  netip.Prefix
	c       *lab.Container
	member  *lab.Member  // nil: flannel runs there
	flannel *lab.Flannel // nil: the product runs there
}

func (s *site) String() string {
	if s.member != nil {
		return "ebpfnet " + s.ip
	}
	return "flannel " + s.ip
}

// network is hosts of both kinds on one or two segments.
type network struct {
	segment *lab.Segment
	sites   []*site
}

func newNetwork(t *testing.T, config string) *network {
	n := &network{segment: suite.NewSegment(t, lab.Default)}
	n.segment.StartEtcd(t)
	n.segment.Etcdctl(t, "put", lab.NetworkKey, config)
	return n
}

// join adds hosts: e is one of the product's, f one with flanneld, E and F one behind the router.
func (n *network) join(t *testing.T, kinds string) {
	t.Helper()
	for _, kind := range kinds {
		s := &site{}
		var env map[string]string
		switch kind {
		case 'e':
			s.member = n.segment.Join(t)
		case 'E':
			s.member = n.segment.AddBehind(t)
			s.member.Start(t)
		case 'f', 'F':
			s.flannel = n.segment.JoinFlannel(t, flanneld, kind == 'F')
		}
		if s.member != nil {
			s.Host, s.ip, env = s.member.Host, s.member.IP, s.member.Subnet(t)
		} else {
			s.Host, s.ip, env = s.flannel.Host, s.flannel.IP, s.flannel.Subnet(t)
		}
		s.subnet = netip.MustParsePrefix(env["FLANNEL_SUBNET"]).Masked()
		s.c = s.Host.Run(t, fmt.Sprintf("c%d", len(n.sites)))
		if s.member != nil {
			s.member.Await(t, s.c)
		}
		n.sites = append(n.sites, s)
		t.Cleanup(func() {
			switch {
			case !t.Failed():
			case s.member != nil:
				s.member.Report(t)
			default:
				t.Logf("%s: %s", s, strings.Join(s.flannel.Complaints(t), "\n"))
			}
		})
	}
}

// meet asks between every two hosts, in both directions and from containers and hosts, until all of it works at once.
func (n *network) meet(t *testing.T, when string) {
	t.Helper()
	took := lab.Eventually(t, settled, func() error {
		for _, from := range n.sites {
			for _, to := range n.sites {
				if from == to {
					continue
				}
				if err := n.ask(from, to); err != nil {
					return fmt.Errorf("%s: %s to %s: %w", when, from, to, err)
				}
			}
		}
		return nil
	})
	t.Logf("%s: everybody reaches everybody after %v", when, took.Round(time.Millisecond))
}

// ask asks a container from another host's container and from that host.
func (n *network) ask(from, to *site) error {
	for _, proto := range []string{"tcp", "udp"} {
		answer, err := from.c.NS.TryAsk(proto, to.c.At(80), lab.Within(time.Second))
		if err != nil {
			return fmt.Errorf("container to container: %w", err)
		}
		if seen := answer.Seen().Addr(); seen != from.c.IP {
			return fmt.Errorf("container %s is seen as %s", from.c.IP, seen)
		}
		answer, err = from.NS.TryAsk(proto, to.c.At(80), lab.Within(time.Second))
		if err != nil {
			return fmt.Errorf("host to container: %w", err)
		}
		if seen := answer.Seen().Addr(); seen != from.subnet.Addr() && seen.String() != from.ip {
			return fmt.Errorf("host %s is seen as %s", from.ip, seen)
		}
	}
	return nil
}

// sizes sends what does not fit into one packet, and as much as that over TCP, in both directions.
func (n *network) sizes(t *testing.T, a, b *site, size int64) {
	t.Helper()
	for _, way := range [][2]*site{{a, b}, {b, a}} {
		client := way[0].c.NS.Dial(t, "tcp", way[1].c.At(80))
		began := time.Now()
		if got, err := client.Sink(size, 10*settled); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("%s to %s: %q %v", way[0], way[1], got, err)
		}
		t.Logf("%s to %s: %d MB, whole, %.0f MB/s", way[0], way[1], size>>20, float64(size>>20)/time.Since(began).Seconds())
		way[0].c.NS.Ask(t, "udp", way[1].c.At(80), lab.Size(4000))
		way[0].NS.Ask(t, "udp", way[1].c.At(80), lab.Size(1000))
		way[0].c.NS.Ping(t, 31).Ping(t, way[1].subnet.Addr().Next().String(), []byte("to the bridge of the host"))
	}
}

// each gives the hosts of a kind.
func (n *network) each(product bool) []*site {
	var found []*site
	for _, s := range n.sites {
		if (s.member != nil) == product {
			found = append(found, s)
		}
	}
	return found
}

// restarts ends and starts what runs on the hosts, one after the other, and boots a host of each kind.
func (n *network) restarts(t *testing.T) {
	t.Helper()
	e, f := n.each(true)[0], n.each(false)[0]
	if err := e.member.StopAgent(); err != nil {
		t.Fatal(err)
	}
	n.meet(t, "an agent is stopped")
	e.member.StartAgent(t)
	n.meet(t, "it runs again")
	e.member.KillAgent(t)
	e.member.StartAgent(t)
	n.meet(t, "an agent was killed")
	if err := f.flannel.Kill(); err != nil {
		t.Fatal(err)
	}
	f.flannel.Start(t)
	n.meet(t, "a flanneld was killed")

	// Nothing of what is in the kernel outlives a reboot.
	if err := e.member.StopAgent(); err != nil {
		t.Fatal(err)
	}
	e.member.Forget(t)
	e.member.StartAgent(t)
	n.meet(t, "a host of ours has booted")
	if err := f.flannel.Stop(); err != nil {
		t.Fatal(err)
	}
	f.flannel.Forget(t)
	f.flannel.Start(t)
	n.meet(t, "a host of flannel's has booted")
	for _, s := range n.sites {
		var now string
		if s.member != nil {
			now = s.member.Subnet(t)["FLANNEL_SUBNET"]
		} else {
			now = s.flannel.Subnet(t)["FLANNEL_SUBNET"]
		}
		if got := netip.MustParsePrefix(now).Masked(); got != s.subnet {
			t.Errorf("%s has %s now, and had %s", s, got, s.subnet)
		}
	}
}

// complaints are what the flannelds have logged as errors, but for the expected.
func (n *network) complaints(t *testing.T, expected ...string) {
	t.Helper()
	var errs []error
	for _, s := range n.each(false) {
		for _, line := range s.flannel.Complaints(t) {
			// What it says when it is asked to end.
			known := strings.Contains(line, "cancel")
			for _, e := range expected {
				known = known || strings.Contains(line, e)
			}
			if !known {
				errs = append(errs, fmt.Errorf("%s: %s", s, line))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Errorf("flanneld complains:\n%v", err)
	}
}

// overlay I1, overlay I2: hosts of both kinds in one network of each backend, joining in either order, on one segment and behind a router; every
// container and host reaches every other, also after restarts and reboots of either kind.
func TestMixed(t *testing.T) {
	for _, c := range []struct {
		name, config, hosts string
	}{
		{"vxlan", `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`, "fefefe"},
		{"vxlan behind a router", `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`, "eF"},
		{"direct routing", `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}`, "feEF"},
		{"host-gw", `{"Network":"10.200.0.0/16","Backend":{"Type":"host-gw"}}`, "efefef"},
		{"udp", `{"Network":"10.200.0.0/16","Backend":{"Type":"udp"}}`, "fef"},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := int64(64 << 20)
			if c.name == "vxlan" {
				size = 1 << 30 // overlay D5
			}
			n := newNetwork(t, c.config)
			n.join(t, c.hosts)
			n.meet(t, "at first")
			n.sizes(t, n.each(true)[0], n.each(false)[0], size)
			n.restarts(t)
			n.complaints(t)
		})
	}
}

func absent(text, what string) error {
	if strings.Contains(text, what) {
		return fmt.Errorf("%s is still there: %s", what, text)
	}
	return nil
}
