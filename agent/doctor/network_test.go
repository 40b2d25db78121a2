package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/policy"
)

// space puts the test's thread into a network namespace of its own until the test ends, and gives a function that runs ip(8) there.
func space(t *testing.T) func(commands ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Where it cannot go back, the thread stays locked and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	})
	run := func(commands ...string) {
		t.Helper()
		for _, c := range commands {
			words := strings.Fields(c)
			if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c, err, out)
			}
		}
	}
	run("ip link set lo up")
	return run
}

func examine(t *testing.T) []api.Finding {
	t.Helper()
	return hostNetwork(loader.PathsFor("doctor-test-none"))
}

// findings are those of one check.
func findings(all []api.Finding, check string) []api.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f api.Finding) bool { return f.Check != check })
}

// one demands one finding of a check, with words in what is found and in what to do.
func one(t *testing.T, all []api.Finding, check, level, found, advice string) {
	t.Helper()
	of := findings(all, check)
	if !slices.ContainsFunc(of, func(f api.Finding) bool {
		return f.Level == level && strings.Contains(f.Found, found) && strings.Contains(f.Advice, advice)
	}) {
		t.Errorf("no %s of %s with %q and %q among %+v", level, check, found, advice, of)
	}
}

// A host on which nothing is wrong has no warning, and each thing that can be wrong has its own. Everything is the kernel's own.
func TestNetworkFindings(t *testing.T) {
	ip := space(t)
	ip("ip link add up0 type veth peer name far0", "ip addr add 192.0.2.1/24 dev up0", "ip link set up0 up", "ip link set far0 up",
		"ip route add default via 192.0.2.254",
		"ip link add br0 type bridge", "ip addr add 172.30.0.1/16 dev br0", "ip link set br0 up")
	for _, f := range examine(t) {
		if f.Level != OK || f.Advice != "" {
			t.Errorf("a host that is well: %+v", f)
		}
	}

	ip("ip link set up0 mtu 1400")
	one(t, examine(t), "mtu", Warning, "br0 has 1500 and the uplink up0 has 1400", "driver.mtu=1400")
	// The kernel takes no longer MTU of its own will; but the device below may be given a shorter one later.
	ip("ip link set up0 mtu 1600", "ip link add vx type vxlan id 7 dstport 4789 dev up0", "ip link set vx mtu 1550", "ip link set up0 mtu 1500")
	one(t, examine(t), "mtu", Warning, "vx has 1550, and its packets grow by 50 before they leave by up0, which has 1500", "ip link set dev vx mtu 1450")
	ip("ip link del vx")

	ip("ip addr add 172.30.9.1/24 dev up0")
	one(t, examine(t), "subnets", Warning, "172.30.9.0/24 of up0", "docker network create --subnet")
	ip("ip addr del 172.30.9.1/24 dev up0", "ip route add 172.30.64.0/18 via 192.0.2.254")
	one(t, examine(t), "subnets", Warning, "172.30.0.0/16 of br0 and 172.30.64.0/18 by up0", "default-address-pools")
	ip("ip route del 172.30.64.0/18")

	ip("ip link add up1 type veth peer name far1", "ip addr add 198.51.100.1/24 dev up1", "ip link set up1 up", "sysctl -qw net.ipv4.conf.up0.rp_filter=1")
	one(t, examine(t), "rp_filter", Warning, "strict on up0, and there are 2 ways out", "sysctl -w net.ipv4.conf.up0.rp_filter=2")
	ip("sysctl -qw net.ipv4.conf.up0.rp_filter=2", "ip link del up1")

	for _, f := range examine(t) {
		if f.Level != OK {
			t.Errorf("once all is mended: %+v", f)
		}
	}
}

// The ends of a container's veth must agree, with each other and with the bridge.
func TestVethMTU(t *testing.T) {
	ip := space(t)
	name := fmt.Sprintf("ebl-%d-doctor", os.Getpid())
	ip("ip netns add " + name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	ip("ip link add br0 type bridge", "ip addr add 172.30.0.1/16 dev br0", "ip link set br0 up",
		"ip link add v0 type veth peer name eth0 netns "+name, "ip link set v0 master br0 up")
	one(t, examine(t), "mtu", OK, "no device's packets are too long", "")
	ip("ip link set v0 mtu 1400")
	one(t, examine(t), "mtu", Warning, "the ends of the veth v0 have 1400 and 1500", "ip link set dev v0 mtu 1500")
	// A bridge follows its ports until it is given an MTU that it has not.
	ip("ip link set br0 mtu 1300", "ip link set v0 mtu 1500")
	one(t, examine(t), "mtu", Warning, "the container behind v0 has 1500 and its bridge br0 has 1300", "ip link set dev eth0 mtu 1300")
}

// Others' programs are told by hook, device and name, wherever they may be.
func TestHookFindings(t *testing.T) {
	ip := space(t)
	ip("ip link add up0 type veth peer name far0", "ip addr add 192.0.2.1/24 dev up0", "ip link set up0 up", "ip route add default via 192.0.2.254")
	index := func() int {
		n, err := look()
		if err != nil {
			t.Fatal(err)
		}
		return n.Uplinks[0].Index
	}()
	load := func(name string, kind ebpf.ProgramType, attach ebpf.AttachType, verdict int32) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: kind, AttachType: attach, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	put := func(l link.Link, err error) {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	if f := findings(examine(t), "hooks"); len(f) != 1 || f[0].Level != OK {
		// Whoever has programs on the machine's control group would be told too.
		t.Logf("before: %+v", f)
	}
	features, err := loader.Probe()
	if err != nil {
		t.Fatal(err)
	}
	if features.Hook() == "tcx" {
		put(link.AttachTCX(link.TCXOptions{Interface: index, Attach: ebpf.AttachTCXEgress, Program: load("stranger_out", ebpf.SchedCLS, 0, -1)}))
		one(t, examine(t), "hooks", Warning, "stranger_out is on tcx egress of up0", "bpftool net show dev up0")
	}
	put(link.AttachXDP(link.XDPOptions{Interface: index, Program: load("stranger_xdp", ebpf.XDP, 0, 2), Flags: link.XDPGenericMode}))
	one(t, examine(t), "hooks", Note, "an XDP program is on up0", "ip -details link show up0")
	ip("tc qdisc add dev up0 clsact")
	err = netlink.FilterAdd(&netlink.BpfFilter{Name: "stranger", DirectAction: true, Fd: load("stranger_in", ebpf.SchedCLS, 0, -1).FD(), FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 5, Protocol: unix.ETH_P_ALL}})
	if err != nil {
		t.Fatal(err)
	}
	one(t, examine(t), "hooks", Warning, "bpf stranger is on clsact ingress of up0", "tc filter show dev up0 ingress")

	root, err := loader.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	put(link.AttachCgroup(link.CgroupOptions{Path: root, Attach: ebpf.AttachCgroupInet6GetPeername,
		Program: load("stranger_sock", ebpf.CGroupSockAddr, ebpf.AttachCgroupInet6GetPeername, 1)}))
	one(t, examine(t), "hooks", Note, "stranger_sock is on cgroup getpeername6", "bpftool cgroup show")
}

// The kernel's features are read as ethtool reads them, and what is known to break something is told where it is on, and only there.
func TestOffloads(t *testing.T) {
	ip := space(t)
	ip("ip link add up0 type veth peer name far0", "ip addr add 192.0.2.1/24 dev up0", "ethtool -K up0 rx-gro-list on tx-checksum-ip-generic off")
	o, err := readOffloads("up0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ethtool", "-k", "up0").Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(out)) {
		name, state, ok := strings.Cut(strings.TrimSpace(line), ": ")
		// The others are sums of several, or have another name there.
		if !ok || !strings.HasPrefix(name, "tx-") && !strings.HasPrefix(name, "rx-gro-") || name == "tx-checksumming" || name == "tx-vlan-offload" || strings.HasPrefix(name, "tx-nocache") {
			continue
		}
		compared++
		if on := strings.HasPrefix(state, "on"); on != o.on[name] {
			t.Errorf("%s: %t, ethtool says %s", name, o.on[name], state)
		}
	}
	if o.driver != "veth" || compared < 10 || !o.on["rx-gro-list"] || o.on["tx-checksum-ip-generic"] {
		t.Errorf("driver %q, %d features compared: %v", o.driver, compared, o.on)
	}
	n, err := look()
	if err != nil {
		t.Fatal(err)
	}
	one(t, n.checkOffloads("6.1.0-18-amd64"), "offloads", Warning, "up0 (veth) has rx-gro-list on", "ethtool -K up0 rx-gro-list off")
	one(t, n.checkOffloads("6.16.0"), "offloads", OK, "up0 (veth)", "")
	if _, err := readOffloads("nosuch"); err == nil {
		t.Error("a device that is not there has features")
	}
	for _, tt := range []struct {
		name, driver, feature, release string
		want                           string // in what to do; empty: nothing is found
	}{
		{"VMware's card", "vmxnet3", "tx-udp_tnl-segmentation", "6.1.0", "ethtool -K d tx-udp_tnl-segmentation off"},
		{"VMware's checksums", "vmxnet3", "tx-checksum-ip-generic", "6.18.1", "ethtool -K d tx-checksum-ip-generic off"},
		{"another card", "ixgbe", "tx-udp_tnl-segmentation", "6.1.0", ""},
		{"large receive", "ixgbe", "rx-lro", "6.18.1", "ethtool -K d lro off"},
		{"a release nobody can read", "x", "rx-gro-list", "next", "ethtool -K d rx-gro-list off"},
	} {
		got := checkOffloads("d", offloads{tt.driver, map[string]bool{tt.feature: true}}, tt.release)
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].Advice, tt.want)) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestConntrack(t *testing.T) {
	root := t.TempDir()
	check(t, conntrack(root), OK, "not loaded")
	write(t, filepath.Join(root, "net/netfilter/nf_conntrack_count"), "799\n")
	write(t, filepath.Join(root, "net/netfilter/nf_conntrack_max"), "1000\n")
	check(t, conntrack(root), OK, "799 of 1000")
	write(t, filepath.Join(root, "net/netfilter/nf_conntrack_count"), "800\n")
	check(t, conntrack(root), Warning, "sysctl -w net.netfilter.nf_conntrack_max=2000")
}

func TestRPFilter(t *testing.T) {
	two := []policy.Uplink{{Name: "eth0"}, {Name: "eth0.7"}}
	for _, tt := range []struct {
		name        string
		all, own    string
		uplinks     []policy.Uplink
		level, text string
	}{
		{"off", "0", "0", two, OK, "nothing is dropped"},
		{"loose for all", "2", "1", two, OK, "nothing is dropped"},
		{"strict for all", "1", "0", two, Warning, "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"strict, one way out", "1", "1", two[:1], OK, "nothing is dropped"},
		{"a name with a dot", "0", "1", slices.Concat(two[1:], two[:1]), Warning, "sysctl -w net.ipv4.conf.eth0/7.rp_filter=2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "net/ipv4/conf/all/rp_filter"), tt.all)
			for _, u := range two {
				write(t, filepath.Join(root, "net/ipv4/conf", u.Name, "rp_filter"), tt.own)
			}
			check(t, rpFilter(root, tt.uplinks)[0], tt.level, tt.text)
		})
	}
}
