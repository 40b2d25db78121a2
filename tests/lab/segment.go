package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/loader"
)

// Addresses of every segment. Its hosts are on one network, with a machine that is their router and holds etcd. Behind it stands the
// rest of the world:
//
//	eth0 198.18.0.11/24 [first]  ---+
//	eth0 198.18.0.12/24 [second] ---+--- seg0 198.18.0.1/24 [etcd, router] out0 203.0.113.254/24 --- 203.0.113.2/24 far [remote]
const (
	SegmentIP = "198.18.0.1"
	// SegmentDevice is each host's device on the segment.
	SegmentDevice = "eth0"
	firstMember   = 11
	etcdURL       = "http://" + SegmentIP + ":2379"
	// NetworkKey is where the hosts' network is configured.
	NetworkKey = "/coreos.com/network/config"
	subnetsKey = "/coreos.com/network/subnets/"
)

// Segment is a network that several hosts share.
type Segment struct {
	World  World
	Router *Netns // its bridge seg0 is the segment
	Remote *Netns

	suite  *Suite
	name   string
	etcd   *daemon
	hosts  int
	behind bool // there is a second segment
}

// NewSegment makes a segment without hosts, for this test alone.
func (s *Suite) NewSegment(t testing.TB, w World) *Segment {
	t.Helper()
	s.Require(t)
	g := &Segment{World: w, suite: s, name: fmt.Sprintf("seg%d", s.next())}
	for _, n := range []struct {
		ns   **Netns
		name string
	}{{&g.Router, "router"}, {&g.Remote, remoteName}} {
		ns, err := newNetns(s.prefix + "-" + g.name + "-" + n.name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ns.Close(); err != nil {
				t.Errorf("close segment: %v", err)
			}
		})
		*n.ns = ns
	}
	err := errors.Join(
		g.Router.setSysctl("net/ipv4/ip_forward", "1"),
		g.Router.ip("link add seg0 type bridge", "addr add "+SegmentIP+"/24 dev seg0", "link set seg0 up",
			"link add out0 type veth peer name far netns "+g.Remote.Name, "addr add 203.0.113.254/24 dev out0", "link set out0 up"),
		g.Remote.ip("addr add "+RemoteIP+"/24 dev far", "link set far up", "route add default via 203.0.113.254"),
	)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// StartEtcd starts an etcd on the router that keeps what it had, and waits until it answers. The test's end stops it.
func (g *Segment) StartEtcd(t testing.TB) {
	t.Helper()
	top, err := g.suite.dir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, g.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	first := g.etcd == nil
	g.etcd, err = startDaemon(&g.suite.ledger, g.Router, filepath.Join(dir, "etcd.log"), "etcd", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", etcdURL, "--listen-peer-urls", "http://127.0.0.1:2380",
		"--log-level", "error")
	if err != nil {
		t.Fatal(err)
	}
	if first {
		t.Cleanup(func() {
			if err := g.StopEtcd(); err != nil {
				t.Errorf("close segment: %v", err)
			}
		})
	}
	Eventually(t, time.Minute, func() error {
		if err := g.etcd.exited(); err != nil {
			return err
		}
		_, err := g.etcdctl("endpoint", "health")
		return err
	})
}

// StopEtcd ends etcd, if it runs.
func (g *Segment) StopEtcd() error {
	if g.etcd.exited() != nil {
		return nil
	}
	return g.etcd.stop()
}

func (g *Segment) etcdctl(args ...string) (string, error) {
	return g.Router.TryRun("env", append([]string{"ETCDCTL_API=3", "etcdctl", "--endpoints", etcdURL}, args...)...)
}

// Etcdctl runs etcdctl(1).
func (g *Segment) Etcdctl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := g.etcdctl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// Member is a host on a segment.
type Member struct {
	*Host
	*Instance
	IP string // on the segment

	segment *Segment
	file    string // the subnet's
	flags   []string
}

// Join adds a host whose agent leases a subnet in etcd, a dockerd whose bridge has that subnet, and the product on it. Flags are the agent's.
func (g *Segment) Join(t testing.TB, flags ...string) *Member {
	t.Helper()
	m := g.Add(t, flags...)
	m.Start(t)
	return m
}

// Start starts the agent of a new host, a dockerd whose bridge has the subnet that it leases, and the product on it.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	m.StartAgent(t)
	env := m.Subnet(t)
	m.Begin(t, "--bip", env["FLANNEL_SUBNET"], "--mtu", env["FLANNEL_MTU"])
	m.Attach(t, "--bridge", Bridge)
}

// Add makes a host on which nothing runs yet.
func (g *Segment) Add(t testing.TB, flags ...string) *Member {
	t.Helper()
	return g.member(t, "198.18.0", flags)
}

// AddBehind is Add for a host on another segment, 198.19.0.0/24, which the router connects with the first.
func (g *Segment) AddBehind(t testing.TB, flags ...string) *Member {
	t.Helper()
	return g.member(t, "198.19.0", flags)
}

func (g *Segment) member(t testing.TB, network string, flags []string) *Member {
	t.Helper()
	h, ip := g.host(t, network)
	m := &Member{Host: h, IP: ip, segment: g, flags: flags, file: filepath.Join(h.docker.dir, "subnet.env")}
	var err error
	if m.Instance, err = h.newInstance(); err != nil {
		t.Fatal(err)
	}
	return m
}

// host makes a host's namespace, and what its dockerd is started with. Network is the first three bytes of its addresses.
func (g *Segment) host(t testing.TB, network string) (h *Host, ip string) {
	t.Helper()
	if network != "198.18.0" && !g.behind {
		g.behind = true
		if err := g.Router.ip("link add seg1 type bridge", "addr add 198.19.0.1/24 dev seg1", "link set seg1 up"); err != nil {
			t.Fatal(err)
		}
	}
	g.hosts++
	name := fmt.Sprintf("%s-%d", g.name, g.hosts)
	ns, err := newNetns(g.suite.prefix + "-" + name)
	if err != nil {
		t.Fatal(err)
	}
	h = &Host{World: g.World, NS: ns, suite: g.suite, name: name}
	ip = fmt.Sprintf("%s.%d", network, firstMember+g.hosts-1)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host: %v", err)
		}
	})
	port, segment := fmt.Sprintf("h%d", g.hosts), "seg0"
	if network != "198.18.0" {
		segment = "seg1"
	}
	err = errors.Join(
		ns.setSysctl("net/ipv4/ip_forward", "0"), ns.setSysctl("net/ipv4/conf/all/rp_filter", "2"),
		ns.setSysctl("net/ipv4/conf/default/rp_filter", "2"), ns.setSysctl("net/ipv6/conf/all/accept_dad", "0"),
		ns.ip("link add "+SegmentDevice+" type veth peer name "+port+" netns "+g.Router.Name,
			"addr add "+ip+"/24 dev "+SegmentDevice, "link set "+SegmentDevice+" up"),
		g.Router.ip("link set "+port+" master "+segment+" up"),
		ns.ip("route add default via "+network+".1"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if h.docker, err = newDocker(g.suite, ns, name, g.World.flags()); err != nil {
		t.Fatal(err)
	}
	return h, ip
}

// StartAgent starts the agent in the foreground, and waits until it answers.
func (m *Member) StartAgent(t testing.TB, flags ...string) {
	t.Helper()
	m.LaunchAgent(t, flags...)
	m.StartedAgent(t)
}

// StartedAgent waits until the agent that was launched answers.
func (m *Member) StartedAgent(t testing.TB) {
	t.Helper()
	Eventually(t, time.Minute, func() error {
		if err := m.Instance.agent.exited(); err != nil {
			return err
		}
		return m.running()
	})
}

// Loaded waits until an agent of a host on which nothing is attached yet has loaded its programs.
func (m *Member) Loaded(t testing.TB) {
	t.Helper()
	Eventually(t, time.Minute, func() error {
		log, err := os.ReadFile(m.Log())
		if err == nil && !strings.Contains(string(log), "datapath is loaded") {
			err = errors.New("its programs are not loaded")
		}
		return err
	})
}

// LaunchAgent is StartAgent that waits for nothing.
func (m *Member) LaunchAgent(t testing.TB, flags ...string) {
	t.Helper()
	args := []string{"agent", "--metrics-addr", "off"}
	if m.segment.etcd != nil {
		args = append(args, "--etcd-endpoints", etcdURL, "--subnet-file", m.file)
	}
	cmd := m.Instance.Command(context.Background(), append(append(args, m.flags...), flags...)...)
	var err error
	if m.Instance.agent, err = startCommand(&m.suite.ledger, cmd, m.Log(), "agent of "+m.Instance.Name); err != nil {
		t.Fatal(err)
	}
}

// StopAgent ends the agent as a service manager does, if it runs. The datapath stays.
func (m *Member) StopAgent() error {
	if m.Instance.agent == nil || m.Instance.agent.exited() != nil {
		return nil
	}
	return m.Instance.agent.stop()
}

// KillAgent ends the agent without a word.
func (m *Member) KillAgent(t testing.TB) {
	t.Helper()
	if err := m.Instance.agent.kill(); err != nil {
		t.Fatal(err)
	}
}

// Forget takes from the kernel, and from what the agent keeps until then, what a machine that boots does not have any more. The agent must
// not run.
func (m *Member) Forget(t testing.TB) {
	t.Helper()
	p := loader.PathsFor(m.Instance.Name)
	for _, path := range []string{p.BPFFS, filepath.Join(p.Run, m.Instance.Name+".session")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, dev := range []string{tunnel.DeviceName(m.Instance.Name, loader.DefaultInstance), "flannel.1", "flannel0"} {
		_, _ = m.NS.TryRun("ip", "link", "delete", dev)
	}
	m.NS.IP(t, "route flush proto 0xeb")
}

// Log is the file that the agent's log is in.
func (m *Member) Log() string { return filepath.Join(m.docker.dir, "agent.log") }

// Subnet waits for the subnet's file, and returns what it says.
func (m *Member) Subnet(t testing.TB) map[string]string {
	t.Helper()
	var env map[string]string
	Eventually(t, time.Minute, func() error {
		if err := m.Instance.agent.exited(); err != nil {
			return err
		}
		var err error
		env, err = readEnv(m.file)
		return err
	})
	return env
}

// readEnv reads a file of NAME=value lines.
func readEnv(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[key] = value
	}
	return env, err
}

// Begin starts dockerd with these flags beside the world's.
func (m *Member) Begin(t testing.TB, flags ...string) {
	t.Helper()
	if err := m.docker.begin(m.suite, flags...); err != nil {
		t.Fatal(err)
	}
}

// Record is what etcd holds of a subnet, "" for nothing.
func (g *Segment) Record(t testing.TB, subnet string) string {
	t.Helper()
	return g.Etcdctl(t, "get", "--print-value-only", subnetsKey+strings.ReplaceAll(subnet, "/", "-"))
}
