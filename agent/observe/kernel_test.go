package observe

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"github.com/ebpfnet/ebpfnet/policy"
)

// inNamespace puts the test into a network namespace of its own for its whole life. Its thread is thrown away with it.
func inNamespace(t testing.TB) {
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

func run(t testing.TB, line string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// named makes a network namespace with a name that no other test has.
func named(t testing.TB, suffix string) string {
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
	if diff := cmp.Diff([]string{"br0 default=false ether=true [172.17.0.1/16]", "up0 default=true ether=true [198.51.100.1/24]"}, up); diff != "" {
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

// look is one look at the test's namespace.
func look(t *testing.T) policy.Observed {
	t.Helper()
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	got, err := k.look()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestUplinks(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{name: "nothing but loopback", lines: []string{"ip link set lo up"}},
		{name: "without an address", lines: []string{"ip link add up0 type veth peer name far"}},
		{name: "down with an address", lines: []string{"ip link add up0 type veth peer name far", "ip addr add 198.51.100.1/24 dev up0"},
			want: []string{"up0 default=false ether=true [198.51.100.1/24]"}},
		{name: "several addresses", lines: []string{
			"ip link add up0 type veth peer name far", "ip addr add 198.51.100.1/24 dev up0", "ip addr add 203.0.113.1/24 dev up0",
			"ip addr add 198.51.100.2/24 dev up0", "ip addr add 2001:db8::1/64 dev up0",
		}, want: []string{"up0 default=false ether=true [198.51.100.1/24 203.0.113.1/24 198.51.100.2/24]"}},
		{name: "the other end's address", lines: []string{
			"ip link add up0 type veth peer name far", "ip addr add 198.51.100.1 peer 203.0.113.9/32 dev up0",
		}, want: []string{"up0 default=false ether=true [198.51.100.1/32]"}},
		{name: "default routes", lines: []string{
			"ip link add w0 type veth peer name w00", "ip link add w1 type veth peer name w11", "ip link add w2 type veth peer name w22",
			"ip link set w0 up", "ip link set w00 up", "ip link set w1 up", "ip link set w11 up", "ip link set w2 up", "ip link set w22 up",
			"ip addr add 198.51.100.1/24 dev w0", "ip addr add 203.0.113.1/24 dev w1", "ip addr add 192.0.2.1/24 dev w2",
			"ip route add default table 100 nexthop via 198.51.100.254 nexthop via 203.0.113.254",
			"ip route add 0.0.0.0/1 via 192.0.2.254", "ip route add blackhole default metric 9000",
		}, want: []string{
			"w0 default=true ether=true [198.51.100.1/24]", "w1 default=true ether=true [203.0.113.1/24]", "w2 default=false ether=true [192.0.2.1/24]",
		}},
		{name: "a default route without an address", lines: []string{
			"ip link add up0 type veth peer name far", "ip link set up0 up", "ip route add default dev up0",
		}, want: []string{"up0 default=true ether=true []"}},
		{name: "a bridge that leads outside, and its port", lines: []string{
			"ip link add br0 type bridge", "ip link add port type veth peer name far", "ip link set port master br0 up",
			"ip link set br0 up", "ip addr add 198.51.100.1/24 dev br0", "ip addr add 198.51.100.2/24 dev port", "ip route add default via 198.51.100.254",
			"ip link add br1 type bridge", "ip addr add 172.17.0.1/16 dev br1",
		}, want: []string{"br0 default=true ether=true [198.51.100.1/24]", "br1 default=false ether=true [172.17.0.1/16]"}},
		{name: "no Ethernet", lines: []string{
			"ip tuntap add dev tun0 mode tun", "ip addr add 10.8.0.2/24 dev tun0",
		}, want: []string{"tun0 default=false ether=false [10.8.0.2/24]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			for _, line := range tt.lines {
				run(t, line)
			}
			var got []string
			for _, u := range look(t).Uplinks {
				got = append(got, fmt.Sprintf("%s default=%v ether=%v %v", u.Name, u.DefaultRoute, u.Ethernet, u.Addrs))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
