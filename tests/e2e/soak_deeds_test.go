package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// deed is one of the things that happen to the host of a soak. It leaves the host as it was, but for its traces.
type deed struct {
	name string
	do   func(*testing.T)
}

func (k *soak) deeds() []deed {
	return []deed{
		{"a container that comes and goes", k.comeAndGo},
		{"namespaces that come and go", k.manyComeAndGo},
		{"publish or unpublish", k.togglePort},
		{"the uplink flaps", k.flap},
		{"rules flushed", k.flush},
		{"dockerd restarts", func(t *testing.T) { k.StopDocker(t); k.StartDocker(t) }},
	}
}

func (k *soak) agentDeeds() []deed {
	return []deed{
		{"the agent is killed", func(t *testing.T) {
			killAgent(t, k.site, true)
			k.judge(t, "while the agent is away", k.load.Round(t))
			k.Attach(t, docker0()...)
		}},
		{"the agent restarts", func(t *testing.T) { killAgent(t, k.site, false); k.Attach(t, docker0()...) }},
	}
}

// comeAndGo runs a container of Docker's with a published port, and asks it and through it.
func (k *soak) comeAndGo(t *testing.T) {
	k.number++
	name := fmt.Sprintf("guest%d", k.number)
	c := k.Host.Run(t, name, "-p", "8090:80")
	defer c.Remove(t)
	k.await(t, c)
	if a := k.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8090)); a.Name != name || a.Seen().Addr().String() != lab.RemoteIP {
		t.Errorf("%s: answered by %s, which sees %s", name, a.Name, a.Client)
	}
	eq(t, name+" seen outside", c.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
	eq(t, name+" asks a neighbour", c.NS.Ask(t, "tcp", k.web.At(80)).Name, "web")
}

// manyComeAndGo puts plain namespaces on the bridge, one after the other, that all have the same address, MAC and ifindex, and have the same
// question answered by each: the answer of another one, or to another one, would be seen.
func (k *soak) manyComeAndGo(t *testing.T) {
	for range 5 {
		k.number++
		k.slowest = max(k.slowest, cycle(t, k.site, k.number))
	}
}

// The address and the numbers that short-lived namespaces take after each other.
const (
	guestIP    = "172.17.200.9"
	guestMAC   = "02:42:ac:11:c8:09"
	guestIndex = 4711
)

// cycle is one start and stop: a namespace comes to the bridge as others did before it, asks outside from a port that they have used, is
// asked by the host, and goes. It returns how long it took until the agent knew of it.
func cycle(t *testing.T, s site, number int) (took time.Duration) {
	t.Run(fmt.Sprintf("cycle %d", number), func(t *testing.T) { took = startAndStop(t, s, number) })
	return took
}

func startAndStop(t *testing.T, s site, number int) time.Duration {
	t.Helper()
	c := s.Machine(t, fmt.Sprintf("guest%d", number))
	ip(t, s.NS, fmt.Sprintf("link add guest index %d type veth peer name eth0 address %s netns %s", guestIndex, guestMAC, c.Name),
		"link set guest master "+lab.Bridge+" up")
	ip(t, c, "addr add "+guestIP+"/16 dev eth0", "link set eth0 up", "route add default via "+lab.GatewayIP)
	took := lab.Eventually(t, lab.Patience, func() error {
		if e := s.Endpoint(t, netip.MustParseAddr(guestIP)); e.Name != c.Name {
			return fmt.Errorf("%s is %s yet, not %s", guestIP, e.Name, c.Name)
		}
		return nil
	})
	name := fmt.Sprintf("guest%d", number)
	c.Serve(t, name, ":80")
	a, err := c.TryAsk("udp", lab.At(lab.RemoteIP, 7000), lab.From(":6000"), lab.Within(3*lab.Patience))
	if err != nil || a.Name != "far" || a.Seen().Addr().String() != lab.HostIP {
		t.Errorf("%s: %v: %+v", name, err, a)
	}
	if a, err = s.NS.TryAsk("tcp", lab.At(guestIP, 80), lab.Within(3*lab.Patience)); err != nil || a.Name != name {
		t.Errorf("the host asks %s: %v: answered by %q", name, err, a.Name)
	}
	s.NS.IP(t, "link del guest")
	return took
}

// togglePort publishes a port of the user's, or takes it back.
func (k *soak) togglePort(t *testing.T) {
	if k.ported {
		k.unpublish(t)
		return
	}
	k.Ebpfnet(t, "publish", "9100-9119:80-99", k.web.Name)
	k.ported = true
	eq(t, "the user's port", k.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 9100)).Name, "web")
	eq(t, "the second one", k.Remote.Ask(t, "udp", lab.At(lab.HostIP, 8080)).Name, "web")
}

func (k *soak) unpublish(t *testing.T) {
	k.Ebpfnet(t, "unpublish", "9100-9119")
	k.ported = false
	k.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 9100))
}

// flap takes the uplink with the default route down and up again.
func (k *soak) flap(t *testing.T) {
	ip(t, k.NS, "link set up0 down", "link set up0 up", "route replace default via "+lab.RouterIP)
}

// flush empties netfilter as a reload of a firewall does, and puts back what was there: what ebpfnet carries goes on meanwhile. Over Docker's rules,
// what the kernel carries is not looked at while they are away.
func (k *soak) flush(t *testing.T) {
	save := func(tool string) string { return k.NS.Run(t, tool) }
	rules := save("iptables-save")
	for _, line := range []string{"iptables -P FORWARD ACCEPT", "iptables -F", "iptables -t nat -F", "nft flush ruleset"} {
		if f := strings.Fields(line); k.World == lab.Default || f[0] == "nft" {
			k.NS.Run(t, f[0], f[1:]...)
		}
	}
	k.judge(t, "while there are no rules", k.load.Round(t))
	eq(t, "in, while there are no rules", k.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080), lab.Within(3*lab.Patience)).Name, "web")
	eq(t, "out, while there are no rules", k.n.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000), lab.Within(3*lab.Patience)).Seen().Addr().String(), lab.HostIP)
	cmd := k.NS.Command(t.Context(), "iptables-restore")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("iptables-restore: %v: %s", err, out)
	}
}

// onDocker0Net tells whether an address is one of docker0's containers.
func onDocker0Net(a string) bool {
	addr := netip.MustParseAddr(a)
	return netip.MustParsePrefix(lab.BridgeNet).Contains(addr) && addr.String() != lab.GatewayIP
}
