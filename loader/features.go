package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Features is what this kernel offers of what the datapath can use. Each was found out by trying.
type Features struct {
	Release        string // of the kernel, for messages only
	TicksPerSecond uint32 // of the clock that flow entries are stamped with (CONFIG_HZ)

	RedirectPeer  bool
	RedirectNeigh bool
	FibLookup     bool
	Jiffies       bool
	LRUHash       bool
	LPMTrie       bool
	InstructionV3 bool

	TCX               bool // without it programs are attached through clsact
	CgroupSock        bool // cgroup connect, sendmsg and recvmsg of both address families
	CgroupGetpeername bool
	NetnsCookie       bool // SO_NETNS_COOKIE
	FibSkipNeigh      bool // BPF_FIB_LOOKUP_SKIP_NEIGH
	FibSrc            bool // BPF_FIB_LOOKUP_SRC
	TunnelLocal       bool // bpf_tunnel_key.local_ipv4
	BTF               bool // of the kernel
	ConntrackLookup   bool // bpf_skb_ct_lookup
	ConntrackNAT      bool // bpf_ct_set_nat_info
	RingBuffer        bool
	JIT               bool
}

// feature is one row of the table that Probe, Map and Missing are made from.
type feature struct {
	name     string
	since    string // the Linux that brought it, for messages only
	required bool   // no datapath without it
	found    *bool
	probe    func() error // nil where it is there, ebpf.ErrNotSupported where not
}

func (f *Features) table() []feature {
	helper := func(fn asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(ebpf.SchedCLS, fn) }
	}
	mapType := func(t ebpf.MapType) func() error {
		return func() error { return features.HaveMapType(t) }
	}
	// Functions stand in the type information of the module that has them, where it is not built in.
	kfunc := func(module, name string) func() error {
		return func() error { return probeKfunc(module, name) }
	}
	return []feature{
		{"redirect_peer", "5.10", true, &f.RedirectPeer, helper(asm.FnRedirectPeer)},
		{"redirect_neigh", "5.10", true, &f.RedirectNeigh, helper(asm.FnRedirectNeigh)},
		{"fib_lookup", "4.18", true, &f.FibLookup, helper(asm.FnFibLookup)},
		{"jiffies64", "5.5", true, &f.Jiffies, helper(asm.FnJiffies64)},
		{"lru_hash", "4.10", true, &f.LRUHash, mapType(ebpf.LRUHash)},
		{"lpm_trie", "4.11", true, &f.LPMTrie, mapType(ebpf.LPMTrie)},
		{"instructions_v3", "5.1", true, &f.InstructionV3, features.HaveV3ISA},
		{"tcx", "6.6", false, &f.TCX, probeTCX},
		{"cgroup_sock_addr", "4.20", false, &f.CgroupSock, func() error { return probeSockAddr(false) }},
		{"cgroup_getpeername", "5.8", false, &f.CgroupGetpeername, func() error { return probeSockAddr(true) }},
		{"netns_cookie", "5.14", false, &f.NetnsCookie, probeNetnsCookie},
		{"fib_skip_neigh", "6.3", false, &f.FibSkipNeigh, func() error { return probeFibFlag(fibSkipNeigh) }},
		{"fib_src", "6.7", false, &f.FibSrc, func() error { return probeFibFlag(fibSrc) }},
		{"tunnel_local", "5.19", false, &f.TunnelLocal, probeTunnelLocal},
		{"btf", "5.4", false, &f.BTF, probeBTF},
		{"conntrack_lookup", "5.18", false, &f.ConntrackLookup, kfunc("nf_conntrack", "bpf_skb_ct_lookup")},
		{"conntrack_nat", "6.1", false, &f.ConntrackNAT, kfunc("nf_nat", "bpf_ct_set_nat_info")},
		{"ring_buffer", "5.8", true, &f.RingBuffer, mapType(ebpf.RingBuf)},
		{"jit", "4.15", false, &f.JIT, probeJIT},
	}
}

// Probe finds out what the kernel offers. It needs the privileges that Load needs, and leaves nothing behind. What is looked at through
// sockets and devices is that of the calling thread's network namespace.
func Probe() (Features, error) {
	var f Features
	if err := CheckPrivileges(); err != nil {
		return f, fmt.Errorf("probe kernel: %w", err)
	}
	// What is tried counts against the limit of locked memory before Linux 5.11.
	if err := rlimit.RemoveMemlock(); err != nil {
		return f, fmt.Errorf("probe kernel: lift the limit of locked memory: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return f, fmt.Errorf("probe kernel: uname: %w", err)
	}
	f.Release = unix.ByteSliceToString(uts.Release[:])
	ticks, err := ticksPerSecond()
	if err != nil {
		return f, fmt.Errorf("probe kernel: %w", err)
	}
	f.TicksPerSecond = ticks
	for _, row := range f.table() {
		err := row.probe()
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			return f, fmt.Errorf("probe kernel: %s: %w", row.name, explain(err))
		}
		*row.found = err == nil
	}
	return f, nil
}

// Map gives the features by name, for people and for JSON.
func (f Features) Map() map[string]bool {
	m := make(map[string]bool)
	for _, row := range f.table() {
		m[row.name] = *row.found
	}
	return m
}

// Missing names what the datapath cannot do without and this kernel does not have, each with the Linux version that brought it.
func (f Features) Missing() []string {
	var missing []string
	for _, row := range f.table() {
		if row.required && !*row.found {
			missing = append(missing, fmt.Sprintf("%s (Linux %s)", row.name, row.since))
		}
	}
	return missing
}

// Hook is the kind of attachment that these features allow: "tcx" or "clsact".
func (f Features) Hook() string {
	if f.TCX {
		return hookTCX
	}
	return hookClsact
}
