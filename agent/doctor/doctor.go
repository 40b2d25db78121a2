// Package doctor examines a kernel and a host: what they offer, what is missing, how to mend it.
//
// The invariant: it changes nothing, and needs no agent. It imports loader and agent/observe, and not agent.
package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

// Levels of findings. Only Error stands in the way of attaching.
const (
	OK      = "ok"
	Note    = "note"
	Warning = "warning"
	Error   = "error"
)

// Host is what is to be examined.
type Host struct {
	Paths      loader.Paths
	DockerHost string // where Docker listens; empty for the usual place
	// ForeignRules lists the rules of netfilter and IPsec that are not Docker's own and that mode native bypasses.
	ForeignRules func(context.Context) ([]string, error)
}

// hostNetwork examines devices, addresses and routes.
func hostNetwork(p loader.Paths) []api.Finding {
	n, err := look()
	if err != nil {
		return []api.Finding{{Level: Warning, Check: "network", Found: err.Error()}}
	}
	var uts unix.Utsname
	release := ""
	if err := unix.Uname(&uts); err == nil {
		release = unix.ByteSliceToString(uts.Release[:])
	}
	out := rpFilter("/proc/sys", n.Uplinks)
	for _, more := range [][]api.Finding{n.checkMTU(), n.checkSubnets(), n.checkOffloads(release), n.checkHooks(p)} {
		out = append(out, more...)
	}
	return out
}

// Examine makes every check there is.
func Examine(ctx context.Context, h Host) []api.Finding {
	var all []api.Finding
	add := func(f ...api.Finding) { all = append(all, f...) }
	if err := loader.CheckPrivileges(); err != nil {
		add(api.Finding{Level: Error, Check: "privileges", Found: "neither root nor CAP_BPF and CAP_NET_ADMIN",
			Advice: "run it as root; the kernel is not examined without"})
	} else {
		add(api.Finding{Level: OK, Check: "privileges", Found: "enough to load programs"})
		add(kernel()...)
		add(bpffs(h.Paths))
	}
	add(cgroup2(), docker(ctx, h.DockerHost), ipForward("/proc/sys/net/ipv4/ip_forward"))
	add(foreignRules(ctx, h)...)
	add(dockerProxies("/proc"))
	add(conntrack("/proc/sys"))
	add(hostNetwork(h.Paths)...)
	add(memory(h.Paths)...)
	return all
}

// purposes says what each feature is for; loader names them.
func purposes() map[string]string {
	return map[string]string{
		"redirect_peer":      "delivers straight into a container",
		"redirect_neigh":     "sends straight out of an uplink",
		"fib_lookup":         "asks the kernel's routes",
		"jiffies64":          "the clock of flows",
		"lru_hash":           "the flow tables",
		"lpm_trie":           "the table of subnets",
		"instructions_v3":    "the programs' instruction set",
		"tcx":                "attaches without a qdisc; clsact is used without it",
		"cgroup_sock_addr":   "the host's own sockets reach published ports without a proxy",
		"cgroup_getpeername": "the host's own sockets see the address that they dialled",
		"netns_cookie":       "tells the host's sockets from containers'",
		"fib_skip_neigh":     "route look-ups while a neighbour is not known yet",
		"fib_src":            "masquerades with the address that the route prefers",
		"tunnel_local":       "tells which of the host's addresses another host's tunnel was sent to",
		"btf":                "names of kernel types, for kfuncs",
		"conntrack_lookup":   "will take over flows that the kernel knows",
		"conntrack_nat":      "will hand flows to the kernel",
		"ring_buffer":        "tells monitor and trace of packets",
		"jit":                "compiles programs to machine code",
	}
}

func kernel() []api.Finding {
	f, err := loader.Probe()
	if err != nil {
		return []api.Finding{{Level: Error, Check: "kernel", Found: err.Error(), Advice: "see whether bpf() is forbidden here"}}
	}
	out := []api.Finding{{Level: OK, Check: "kernel", Found: fmt.Sprintf("%s %s, hook %s", f.Release, runtime.GOARCH, f.Hook())}}
	if missing := f.Missing(); len(missing) > 0 {
		out = append(out, api.Finding{Level: Error, Check: "kernel", Found: "lacks " + strings.Join(missing, ", "),
			Advice: "use Linux 5.10 or newer"})
	}
	features, why := f.Map(), purposes()
	names := make([]string, 0, len(features))
	for name := range features {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		finding := api.Finding{Level: OK, Check: name, Found: "there (" + why[name] + ")"}
		if !features[name] {
			finding.Level, finding.Found = Note, "not there ("+why[name]+")"
		}
		if !features[name] && name == "jit" {
			finding.Level, finding.Advice = Warning, "programs run slowly: `sysctl -w net.core.bpf_jit_enable=1`"
		}
		out = append(out, finding)
	}
	return out
}

func bpffs(p loader.Paths) api.Finding {
	if err := loader.CheckBPFFS(p); err != nil {
		return api.Finding{Level: Error, Check: "bpffs", Found: "not mounted at " + p.BPFFSMount,
			Advice: "`mount -t bpf bpf " + p.BPFFSMount + "`"}
	}
	return api.Finding{Level: OK, Check: "bpffs", Found: "mounted at " + p.BPFFSMount}
}

func cgroup2() api.Finding {
	root, err := loader.CgroupRoot()
	if err != nil {
		return api.Finding{Level: Warning, Check: "cgroup2", Found: "not mounted: the host's own sockets do not reach published ports",
			Advice: "`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"}
	}
	return api.Finding{Level: OK, Check: "cgroup2", Found: "mounted at " + root}
}

func ipForward(path string) api.Finding {
	b, err := os.ReadFile(path)
	switch {
	case err != nil:
		return api.Finding{Level: Warning, Check: "ip_forward", Found: err.Error()}
	case strings.TrimSpace(string(b)) != "1":
		return api.Finding{Level: Warning, Check: "ip_forward", Found: "off: what is left to the kernel's path does not get out",
			Advice: "`sysctl -w net.ipv4.ip_forward=1`"}
	}
	return api.Finding{Level: OK, Check: "ip_forward", Found: "on"}
}

func dockerProxies(proc string) api.Finding {
	names, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return api.Finding{Level: Note, Check: "docker-proxy", Found: err.Error()}
	}
	n := 0
	own, ownErr := os.Stat(filepath.Join(proc, "thread-self/ns/net"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(b)) != "docker-proxy" {
			continue
		}
		// Another host in another namespace of this machine has its own.
		if space, err := os.Stat(filepath.Join(filepath.Dir(name), "ns/net")); err == nil && ownErr == nil && !os.SameFile(space, own) {
			continue
		}
		n++
	}
	if n == 0 {
		return api.Finding{Level: OK, Check: "docker-proxy", Found: "no processes"}
	}
	return api.Finding{Level: Note, Check: "docker-proxy", Found: fmt.Sprintf("%d processes, one or two for each published port", n),
		Advice: "with ebpfnet attached nothing needs them: dockerd --userland-proxy=false"}
}

// foreignRules lists the rules that `attach --mode auto` has decide.
func foreignRules(ctx context.Context, h Host) []api.Finding {
	rules, err := h.ForeignRules(ctx)
	if err != nil {
		return []api.Finding{{Level: Warning, Check: "rules", Found: err.Error(), Advice: "`attach --mode native` does not look at them"}}
	}
	if len(rules) == 0 {
		return []api.Finding{{Level: OK, Check: "rules", Found: "no netfilter rules but Docker's own stand in forwarded traffic's way"}}
	}
	var out []api.Finding
	for _, r := range rules {
		out = append(out, api.Finding{Level: Warning, Check: "rules", Found: r,
			Advice: "mode native bypasses it; `attach` (mode auto) lets it decide over Docker's rules, in mode offload"})
	}
	return out
}
