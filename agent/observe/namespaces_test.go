package observe

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func TestEndpoints(t *testing.T) {
	inNamespace(t)
	c1, c2, c3 := named(t, "e1"), named(t, "e2"), named(t, "e3")
	for _, line := range []string{
		"ip link add br0 type bridge", "ip link add br1 type bridge",
		// Several in one namespace, one without an address.
		"ip link add v1 type veth peer name eth0 netns " + c1, "ip link set v1 master br0",
		"ip link add v2 type veth peer name eth1 netns " + c1, "ip link set v2 master br1",
		"ip -n " + c1 + " addr add 172.17.0.2/16 dev eth0", "ip -n " + c1 + " addr add 2001:db8::1/64 dev eth0",
		"ip -n " + c1 + " addr add 127.0.0.5/8 dev lo",
		// None of a bridge.
		"ip link add v3 type veth peer name eth0 netns " + c2,
		// Both ends here.
		"ip link add v4 type veth peer name here", "ip link set v4 master br0", "ip addr add 172.17.0.4/16 dev here",
		// A bridge inside.
		"ip link add v5 type veth peer name eth0 netns " + c3, "ip link set v5 master br0",
		"ip -n " + c3 + " link add inner type bridge", "ip -n " + c3 + " link set eth0 master inner",
		"ip -n " + c3 + " addr add 172.17.0.5/16 dev inner",
	} {
		run(t, line)
	}
	var got []string
	for _, e := range look(t).Endpoints {
		got = append(got, fmt.Sprintf("%s %s %s %v", e.Veth, e.Namespace, e.PeerName, e.Addrs))
	}
	slices.Sort(got)
	want := []string{"v1 " + c1 + " eth0 [172.17.0.2/16]", "v2 " + c1 + " eth1 []", "v5 " + c3 + " eth0 []"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A name, a namespace's inode number and the number that it goes by here are all used again by others.
func TestNamesUsedAgain(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add br0 type bridge")
	a, b := named(t, "a"), named(t, "b")
	plug := func(veth, name string) {
		run(t, "ip link add "+veth+" type veth peer name eth0 netns "+name)
		run(t, "ip link set "+veth+" master br0")
	}
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	want := func(what string, want ...string) {
		t.Helper()
		seen, err := k.look()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range seen.Endpoints {
			got = append(got, e.Veth+" "+e.Namespace)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("before")
	plug("va", a)
	want("one", "va "+a)
	plug("vb", b)
	want("two", "va "+a, "vb "+b)
	for _, name := range []string{a, b} {
		run(t, "ip netns del "+name)
	}
	eventually(t, "the namespaces are gone", func() bool {
		links, err := netlink.LinkList()
		return err == nil && len(links) == 2 // lo and br0
	})
	run(t, "ip netns add "+a)
	run(t, "ip netns add "+b)
	plug("vb", b)
	plug("va", a)
	want("the other way round", "va "+a, "vb "+b)
	// The inode numbers that come back above are the kernel's choice. Here they do.
	for _, name := range []string{a, b} {
		s := k.spaces.files[name]
		s.born.Sec, s.id = s.born.Sec-1, s.id+1
		k.spaces.files[name] = s
	}
	want("with the inode numbers of others", "va "+a, "vb "+b)
	// Their files go, their inhabitants stay.
	for _, name := range []string{a, b} {
		cmd := exec.Command("ip", "netns", "exec", name, "sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		eventually(t, "someone lives in "+name, func() bool {
			out, _ := exec.Command("ip", "netns", "pids", name).Output()
			return strings.TrimSpace(string(out)) == fmt.Sprint(cmd.Process.Pid)
		})
		run(t, "ip netns del "+name)
	}
	want("without names", "va ", "vb ")
}

// What keeps a namespace from being seen does not make its endpoint go away.
func TestLookFails(t *testing.T) {
	inNamespace(t)
	c := named(t, "f")
	run(t, "ip link add br0 type bridge")
	run(t, "ip link add v1 type veth peer name eth0 netns "+c)
	run(t, "ip link set v1 master br0")
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	k.close()
	if got, err := k.look(); err == nil {
		t.Errorf("no error, and endpoints %+v", got.Endpoints)
	}
}

// A change is to be picked up within a second, and one look is a part of that.
func TestThousandEndpoints(t *testing.T) {
	const namespaces, each, most = 20, 50, 500 * time.Millisecond
	inNamespace(t)
	run(t, "ip link add br0 type bridge")
	for n := range namespaces {
		name := named(t, fmt.Sprint("k", n))
		var outside, inside strings.Builder
		for i := range each {
			fmt.Fprintf(&outside, "link add v%d.%d master br0 type veth peer name eth%d netns %s\n", n, i, i, name)
			fmt.Fprintf(&inside, "addr add 172.17.%d.%d/16 dev eth%d\n", n, i+1, i)
		}
		batch(t, outside.String())
		batch(t, inside.String(), "-n", name)
	}
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	best := time.Hour
	for range 5 {
		began := time.Now()
		seen, err := k.look()
		best = min(best, time.Since(began))
		if err != nil || len(seen.Endpoints) != namespaces*each {
			t.Fatalf("%d endpoints, %v", len(seen.Endpoints), err)
		}
		for _, e := range seen.Endpoints {
			if len(e.Addrs) != 1 || e.Namespace == "" {
				t.Fatalf("endpoint %+v", e)
			}
		}
	}
	t.Logf("the best of five looks took %v", best)
	if best > most {
		t.Errorf("the best of five looks took %v, more than %v", best, most)
	}
}

// batch runs many of ip's commands at once.
func batch(t testing.TB, lines string, options ...string) {
	t.Helper()
	cmd := exec.Command("ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}
