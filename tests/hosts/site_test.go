package hosts

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite makes this package's hosts.
var suite = lab.NewSuite()

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

const (
	prefix   = "/coreos.com/network"
	network  = "10.200.0.0/16"
	etcdIP   = "198.18.0.2"
	etcdURL  = "http://" + etcdIP + ":2379"
	innerMTU = 1450
)

// host is one of the hosts of a network, with a container on its docker0.
type host struct {
	*lab.Host
	*lab.Instance
	public string
	subnet netip.Prefix
	c      *lab.Container
	args   []string // of its agent
	agent  *exec.Cmd
}

// segment is what the hosts stand on, with etcd.
type segment struct {
	ns    *lab.Netns
	store *lab.Netns
	hosts []*host
}

// eachWorld runs a test on two hosts of a network in each world.
func eachWorld(t *testing.T, backend string, fn func(t *testing.T, s *segment, a, b *host)) {
	t.Helper()
	for _, w := range []lab.World{lab.Default, lab.Native} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			s := newSegment(t, w)
			s.startEtcd(t)
			s.etcdctl(t, "put", prefix+"/config", fmt.Sprintf(`{"Network":%q,"Backend":%s}`, network, backend))
			for _, h := range s.hosts {
				s.join(t, h)
			}
			for _, h := range s.hosts {
				h.untilPeers(t, 1)
			}
			defer func() {
				if t.Failed() {
					for _, h := range s.hosts {
						h.Report(t)
					}
				}
			}()
			fn(t, s, s.hosts[0], s.hosts[1])
		})
	}
}

// newSegment makes two hosts with a subnet each, and what is between them.
func newSegment(t *testing.T, w lab.World) *segment {
	t.Helper()
	suite.Require(t)
	s := &segment{}
	for i := 1; i <= 2; i++ {
		h := &host{public: fmt.Sprintf("198.18.0.%d", 10+i), subnet: netip.MustParsePrefix(fmt.Sprintf("10.200.%d.0/24", i))}
		h.Host = suite.NewHost(t, w, "--bip", netip.PrefixFrom(h.subnet.Addr().Next(), 24).String(), "--mtu", fmt.Sprint(innerMTU))
		if s.ns == nil {
			s.ns = h.Machine(t, "segment")
			s.ns.IP(t, "link add name sw0 type bridge")
			s.ns.IP(t, "link set sw0 up")
		}
		s.connect(t, h.NS, fmt.Sprintf("p%d", i), h.public)
		h.Instance = h.Host.Instance(t)
		h.c = h.Run(t, fmt.Sprintf("c%d", i), "-p", "8080:80", "-p", "8080:80/udp")
		s.hosts = append(s.hosts, h)
	}
	s.store = s.hosts[0].Machine(t, "etcd")
	s.connect(t, s.store, "pe", etcdIP)
	return s
}

// Run is Docker's run.
func (h *host) Run(t *testing.T, name string, args ...string) *lab.Container {
	return h.Host.Run(t, name, args...)
}

// connect gives a namespace a device ov0 on the segment.
func (s *segment) connect(t *testing.T, ns *lab.Netns, port, addr string) {
	t.Helper()
	ns.IP(t, "link add ov0 type veth peer name "+port+" netns "+s.ns.Name)
	ns.IP(t, "addr add "+addr+"/24 dev ov0")
	ns.IP(t, "link set ov0 up")
	s.ns.IP(t, "link set "+port+" master sw0 up")
}

func (s *segment) startEtcd(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := s.store.Command(ctx, "etcd", "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls", etcdURL, "--advertise-client-urls",
		etcdURL, "--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error", "--unsafe-no-fsync")
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	lab.Eventually(t, 10*lab.Patience, func() error {
		_, err := s.store.TryRun("etcdctl", "--endpoints", etcdURL, "endpoint", "health")
		return err
	})
}

func (s *segment) etcdctl(t *testing.T, args ...string) string {
	t.Helper()
	return s.store.Run(t, "etcdctl", append([]string{"--endpoints", etcdURL}, args...)...)
}

// join starts a host's agent in the foreground, as its service does, and attaches docker0. The subnet file is from a time before, so that the
// host asks for the subnet that its docker0 has.
func (s *segment) join(t *testing.T, h *host) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(file, []byte("FLANNEL_SUBNET="+netip.PrefixFrom(h.subnet.Addr().Next(), 24).String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.args = []string{
		"agent", "--metrics-addr", "off", "--etcd-endpoints", etcdURL, "--iface", "ov0", "--subnet-file", file, "--lease-ttl", "4s", "--renew-margin", "1s",
	}
	h.start(t)
	h.Attach(t, "--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "ov0")
	h.Await(t, h.c)
}

// start starts the agent.
func (h *host) start(t *testing.T) {
	t.Helper()
	cmd := h.Command(context.Background(), h.args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.agent = cmd
	t.Cleanup(func() { h.kill() })
	lab.Eventually(t, 10*lab.Patience, func() error {
		if o := h.Try(t, "status"); o.Code != 0 {
			return fmt.Errorf("status: %s", o.Stderr)
		}
		if !h.Status(t).Agent.Running {
			return fmt.Errorf("the agent does not run")
		}
		return nil
	})
}

// kill ends the agent as a crash does.
func (h *host) kill() {
	if h.agent != nil {
		_ = h.agent.Process.Kill()
		_ = h.agent.Wait()
		h.agent = nil
	}
}

func (h *host) untilPeers(t *testing.T, want int) {
	t.Helper()
	lab.Eventually(t, 10*lab.Patience, func() error {
		var peers []api.Peer
		h.JSON(t, &peers, "peer", "list")
		if len(peers) != want {
			return fmt.Errorf("%d peers, want %d: %v", len(peers), want, peers)
		}
		return nil
	})
}

// at is a port of a host's container.
func (h *host) at(port int) string { return h.c.At(port) }

// own is the host's address in the network.
func (h *host) own() string { return h.subnet.Addr().String() }

func eq[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
