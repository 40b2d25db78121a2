package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// way is from whom to whom packets go.
type way string

const (
	local      way = "container to container"
	published  way = "published port from outside"
	masquerade way = "container to outside"
	fromHost   way = "host to container"
)

// ways are in the order of the tables.
var ways = []way{local, published, masquerade, fromHost}

// port is the meter's; it uses the next one too.
const port = 7000

// ends are where a way begins, and what is dialled there.
type ends struct {
	from *lab.Netns
	to   netip.AddrPort
}

// peer is one of those that are compared. It need not have every way.
type peer struct {
	name string
	ends map[way]ends
}

func at(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }

// serve starts a meter in a namespace, until the test ends.
func serve(t *testing.T, meter string, ns *lab.Netns) {
	t.Helper()
	cmd := ns.Command(context.Background(), meter, "serve", fmt.Sprint(port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lab.Eventually(t, lab.Patience, func() error {
		_, err := ns.TryRun(meter, "tcp_rr", fmt.Sprintf("127.0.0.1:%d", port), "1ms")
		return err
	})
}

// bare is the limit: a veth pair between two namespaces, and a process on the host instead of a container.
func bare(t *testing.T, meter string) peer {
	h := suite.NewHost(t, lab.Native)
	a, b := h.Machine(t, "a"), h.Machine(t, "b")
	a.IP(t, "link add eth0 type veth peer name eth0 netns "+b.Name)
	for _, m := range []struct {
		ns   *lab.Netns
		addr string
	}{{a, "10.0.0.1"}, {b, "10.0.0.2"}} {
		m.ns.IP(t, "addr add "+m.addr+"/24 dev eth0")
		m.ns.IP(t, "link set eth0 up")
		m.ns.IP(t, "link set lo up")
	}
	for _, ns := range []*lab.Netns{b, h.NS, h.Remote} {
		serve(t, meter, ns)
	}
	return peer{"bare", map[way]ends{
		local:      {a, at("10.0.0.2")},
		published:  {h.Remote, at(lab.HostIP)},
		masquerade: {h.NS, at(lab.RemoteIP)},
		fromHost:   {a, at("10.0.0.2")},
	}}
}

// bridge is a Linux bridge that no netfilter looks at.
func bridge(t *testing.T, meter string) peer {
	h := suite.NewHost(t, lab.Native)
	h.NS.IP(t, "link add plain type bridge")
	h.NS.IP(t, "addr add 10.0.0.254/24 dev plain")
	h.NS.IP(t, "link set plain up")
	var machines []*lab.Netns
	for i := range 2 {
		m := h.Machine(t, "m")
		h.NS.IP(t, fmt.Sprintf("link add p%d type veth peer name eth0 netns %s", i, m.Name))
		h.NS.IP(t, fmt.Sprintf("link set p%d master plain up", i))
		m.IP(t, fmt.Sprintf("addr add 10.0.0.%d/24 dev eth0", i+1))
		m.IP(t, "link set eth0 up")
		m.IP(t, "link set lo up")
		machines = append(machines, m)
	}
	serve(t, meter, machines[1])
	return peer{"bridge", map[way]ends{local: {machines[0], at("10.0.0.2")}, fromHost: {h.NS, at("10.0.0.2")}}}
}

// docker is a host with dockerd, and with ebpfnet where attach says how.
func docker(t *testing.T, meter, name string, w lab.World, flags, attach []string) peer {
	h := suite.NewHost(t, w, flags...)
	ports := []string{"--publish", "7000:7000", "--publish", "7000:7000/udp", "--publish", "7001:7001/udp"}
	a, b := h.Run(t, "a"), h.Run(t, "b", ports...)
	if attach != nil {
		in := h.Instance(t)
		in.Attach(t, append([]string{"--bridge", lab.Bridge}, attach...)...)
		in.Await(t, a)
		in.Await(t, b)
	}
	for _, ns := range []*lab.Netns{b.NS, h.Remote} {
		serve(t, meter, ns)
	}
	return peer{name, map[way]ends{
		local:      {a.NS, at(b.IP.String())},
		published:  {h.Remote, at(lab.HostIP)},
		masquerade: {a.NS, at(lab.RemoteIP)},
		fromHost:   {h.NS, at(b.IP.String())},
	}}
}

// peers builds all that are compared. The first is the limit.
func peers(t *testing.T, meter string) []peer {
	return []peer{
		bare(t, meter),
		bridge(t, meter),
		docker(t, meter, "docker", lab.Default, nil, nil),
		docker(t, meter, "docker, no proxy", lab.Default, []string{"--userland-proxy=false"}, nil),
		docker(t, meter, "ebpfnet", lab.Native, nil, []string{}),
		docker(t, meter, "ebpfnet over docker", lab.Default, nil, []string{}),
		docker(t, meter, "ebpfnet offload", lab.Default, nil, []string{"--mode", "offload"}),
	}
}

// run measures once.
func run(meter string, e ends, workload string, d time.Duration) ([]byte, error) {
	args := []string{workload, e.to.String(), d.String()}
	if workload == manyStreams {
		args = append([]string{"stream"}, append(args[1:], "4")...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+30*time.Second)
	defer cancel()
	out, err := e.from.Command(ctx, meter, args...).Output()
	var exit *exec.ExitError
	if ok := asExit(err, &exit); ok {
		return nil, fmt.Errorf("%s: %s", e.from.Name, exit.Stderr)
	}
	return out, err
}
