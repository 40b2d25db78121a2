package main

import (
	"strings"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// kernel is a line of Linux that the datapath must run on.
type kernel struct {
	name   string // the line's version, or newest
	suites []string
	where  string   // whose kernel that is, for people
	hook   string   // the kind of attachment that it must come to
	lacks  []string // optional features (loader.Features) that it does not have
	leaves []string // why tests are left out there, as they say themselves
}

// newest is the name of whatever is newest in the archive; it has no version of its own to look for.
const newest = "newest"

// What tests say that are left out.
const (
	noTCX    = "this kernel has no tcx (Linux 6.6)"
	noCookie = "this kernel does not tell network namespaces apart (Linux 5.14)"
	noMemory = "this kernel does not tell what a map takes (Linux 6.4)"
)

// kernels are those that are tested. 5.10 is the oldest that the programs are written for; each of the others is the one that a Debian
// release ships, and newest is what comes next.
func kernels() []kernel {
	return []kernel{
		{
			name: "5.10", suites: []string{"bullseye", "bullseye-security"}, where: "Debian 11", hook: "clsact",
			lacks:  []string{"conntrack_lookup", "conntrack_nat", "fib_skip_neigh", "fib_src", "netns_cookie", "tcx", "tunnel_local"},
			leaves: []string{step.NoVRF, noCookie, noMemory, noTCX},
		},
		{
			name: "6.1", suites: []string{"bookworm", "bookworm-security"}, where: "Debian 12", hook: "clsact",
			lacks:  []string{"tcx"}, // later kernels' flags of bpf_fib_lookup have been brought to it
			leaves: []string{noMemory, noTCX},
		},
		{name: "6.12", suites: []string{"trixie", "trixie-security", "bookworm-backports"}, where: "Debian 13", hook: "tcx"},
		{name: newest, suites: []string{"sid", "trixie-backports"}, where: "Debian unstable", hook: "tcx"},
	}
}

// has says whether a package's version is one of the kernel.
func (k kernel) has(version string) bool {
	return k.name == newest || strings.HasPrefix(version, k.name+".")
}
