package observe

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// followKernel follows the events of the test's namespace until the test ends.
func followKernel(t *testing.T) <-chan bool {
	t.Helper()
	events, err := subscribe(discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	woken := make(chan bool, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		events.follow(ctx, func(torn bool) { woken <- torn })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return woken
}

func TestKernelEvents(t *testing.T) {
	for _, tt := range []struct{ name, before, change string }{
		{"a device comes", "ip link set lo up", "ip link add br0 type bridge"},
		{"a device goes", "ip link add br0 type bridge", "ip link del br0"},
		{"a device changes", "ip link add br0 type bridge", "ip link set br0 address 02:00:00:00:00:01"},
		{"an address", "ip link set lo up", "ip addr add 192.0.2.1/24 dev lo"},
		{"a route", "ip link set lo up", "ip route add 198.51.100.0/24 dev lo"},
		{"a default route of another table", "ip link set lo up", "ip route add default dev lo table 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			run(t, tt.before)
			woken := followKernel(t)
			run(t, tt.change)
			select {
			case <-woken:
			case <-time.After(5 * time.Second):
				t.Error("no event")
			}
		})
	}
}

// K-3: that a qdisc or a filter is taken off is told for what it is; that one is added, and that devices come and go with theirs, is not.
func TestTornEvents(t *testing.T) {
	for _, tt := range []struct {
		name, before, change string
		torn                 bool
	}{
		{"a qdisc is added", "ip link add br0 type bridge", "tc qdisc add dev br0 clsact", false},
		{"a qdisc is deleted", "ip link add br0 type bridge; tc qdisc add dev br0 clsact", "tc qdisc del dev br0 clsact", true},
		{"a device goes", "ip link add v0 type veth peer name v1", "ip link del v0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			for line := range strings.SplitSeq(tt.before, "; ") {
				run(t, line)
			}
			woken := followKernel(t)
			run(t, tt.change)
			run(t, "ip link add last type bridge") // the events before this one's are there by then
			torn := false
			for quiet := false; !quiet; {
				select {
				case w := <-woken:
					torn = torn || w
				case <-time.After(500 * time.Millisecond):
					quiet = true
				}
			}
			if torn != tt.torn {
				t.Errorf("torn is %v", torn)
			}
		})
	}
}

// Without the capability to listen to other namespaces the own one is still listened to.
func TestEventsWithoutBroadcast(t *testing.T) {
	inNamespace(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		t.Fatal(err)
	}
	have[0].Effective &^= 1 << unix.CAP_NET_BROADCAST
	if err := unix.Capset(&header, &have[0]); err != nil {
		t.Fatal(err)
	}
	woken := followKernel(t)
	run(t, "ip link set lo up")
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Error("no event")
	}
}

// An address that appears inside a container's namespace wakes the observer, though nothing changes in the host's.
func TestEventsOfOtherNamespaces(t *testing.T) {
	inNamespace(t)
	c1 := named(t, "ev")
	run(t, "ip link add br0 type bridge")
	run(t, "ip link add v1 type veth peer name eth0 netns "+c1)
	run(t, "ip link set v1 master br0 up")
	woken := followKernel(t)
	run(t, "ip -n "+c1+" addr add 172.17.0.9/16 dev eth0")
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Error("no event for an address in a container's namespace")
	}
}
