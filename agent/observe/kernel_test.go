package observe

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"github.com/ebpfnet/ebpfnet/policy"
)

// inNamespace puts the test into a network namespace of its own for its whole life. Its thread is thrown away with it.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
}

func run(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// named makes a network namespace with a name that no other test has.
func named(t *testing.T, suffix string) string {
	t.Helper()
	name := fmt.Sprintf("ebo-%d-%s", os.Getpid(), suffix)
	run(t, "ip netns add "+name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	return name
}

func TestLook(t *testing.T) {
	inNamespace(t)
	c1 := named(t, "c1")
	for _, line := range []string{
		"ip link set lo up",
		"ip link add br0 type bridge",
		"ip addr add 172.17.0.1/16 dev br0",
		"ip link set br0 up",
		"ip link add v1 type veth peer name eth0 netns " + c1,
		"ip link set v1 master br0 up",
		"ip -n " + c1 + " link set eth0 address 02:00:00:00:00:11 up",
		"ip -n " + c1 + " addr add 172.17.0.2/16 dev eth0",
		"ip -n " + c1 + " addr add 172.17.0.3/16 dev eth0",
		"ip link add up0 type veth peer name far",
		"ip addr add 198.51.100.1/24 dev up0",
		"ip link set up0 up",
		"ip link set far up",
		"ip route add default via 198.51.100.254",
	} {
		run(t, line)
	}
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	got, err := k.look()
	if err != nil {
		t.Fatal(err)
	}

	if len(got.Bridges) != 1 || got.Bridges[0].Name != "br0" ||
		!cmp.Equal(fmt.Sprint(got.Bridges[0].Addrs), "[172.17.0.1/16]") {
		t.Errorf("bridges: %+v", got.Bridges)
	}
	if len(got.Endpoints) != 1 {
		t.Fatalf("endpoints: %+v", got.Endpoints)
	}
	e := got.Endpoints[0]
	e.Index, e.Bridge, e.NSID, e.PeerIndex = 0, 0, 0, 0
	want := policy.Endpoint{
		Veth: "v1", Namespace: c1, PeerName: "eth0", MAC: []byte{2, 0, 0, 0, 0, 0x11}, MTU: 1500,
		Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16"), netip.MustParsePrefix("172.17.0.3/16")},
	}
	if diff := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	var up []string
	for _, u := range got.Uplinks {
		up = append(up, fmt.Sprintf("%s default=%v ether=%v %v", u.Name, u.DefaultRoute, u.Ethernet, u.Addrs))
	}
	if diff := cmp.Diff([]string{"up0 default=true ether=true [198.51.100.1/24]"}, up); diff != "" {
		t.Errorf("uplinks (-want +got):\n%s", diff)
	}
	var addrs []string
	for _, a := range got.HostAddrs {
		addrs = append(addrs, a.Prefix.String())
	}
	if diff := cmp.Diff([]string{"127.0.0.1/8", "172.17.0.1/16", "198.51.100.1/24"}, addrs); diff != "" {
		t.Errorf("host addresses (-want +got):\n%s", diff)
	}
}

// An address that appears inside a container's namespace wakes the observer, though nothing changes in the host's.
func TestEventsOfOtherNamespaces(t *testing.T) {
	inNamespace(t)
	c1 := named(t, "ev")
	run(t, "ip link add br0 type bridge")
	run(t, "ip link add v1 type veth peer name eth0 netns "+c1)
	run(t, "ip link set v1 master br0 up")
	events, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	woken := make(chan struct{}, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		events.follow(ctx, func() { woken <- struct{}{} })
	}()
	defer func() { cancel(); <-ended }()
	run(t, "ip -n "+c1+" addr add 172.17.0.9/16 dev eth0")
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Error("no event for an address in a container's namespace")
	}
}
