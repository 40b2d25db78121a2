package loader

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Layout is the version of the pinned maps' shapes. It grows with every change to a key or a value in types.h: the kernel compares sizes
// only, and would take an old map for a new one.
const Layout = 5

// DefaultInstance is the instance that is meant where none is named.
const DefaultInstance = "default"

// Paths are all places outside the program where an instance keeps anything. Every path of the project is made in this file.
type Paths struct {
	Instance string

	BPFFSMount string // where bpffs is mounted
	BPFFS      string // the instance's directory there
	Maps       string // pinned maps, one directory a layout
	Programs   string // pinned programs, beside the maps that they work on
	Links      string // pinned links. They stand outside the layout: an upgrade replaces programs in place, whatever maps they use

	State  string // file: what the user asked for
	Run    string // directory of Socket, Lock and Docker
	Socket string // the agent's
	Lock   string // file: held by the agent while it runs
	Docker string // file: what Docker said last
	Log    string // file: of an agent that runs in the background

	Policies string // directory of the administrator's rules
}

// PathsFor gives the paths of an instance, whose name must be valid (see ValidateInstance).
func PathsFor(instance string) Paths {
	return pathsUnder(instance, "/sys/fs/bpf", "/var/lib", "/run", "/var/log")
}

func pathsUnder(instance, bpffs, lib, run, log string) Paths {
	root := filepath.Join(bpffs, "ebpfnet", instance)
	return Paths{
		Instance:   instance,
		BPFFSMount: bpffs,
		BPFFS:      root,
		Maps:       filepath.Join(root, "v"+strconv.Itoa(Layout), "maps"),
		Programs:   filepath.Join(root, "v"+strconv.Itoa(Layout), "programs"),
		Links:      filepath.Join(root, "links"),
		State:      filepath.Join(lib, "ebpfnet", instance, "state.json"),
		Run:        filepath.Join(run, "ebpfnet"),
		Socket:     filepath.Join(run, "ebpfnet", instance+".sock"),
		Lock:       filepath.Join(run, "ebpfnet", instance+".lock"),
		Docker:     filepath.Join(run, "ebpfnet", instance+".docker"),
		Log:        filepath.Join(log, "ebpfnet", instance+".log"),
		Policies:   policyFolder(instance),
	}
}

// policyFolder gives the folder of an instance's rules: the default instance's is the one that everybody knows.
func policyFolder(instance string) string {
	if instance == DefaultInstance {
		return "/etc/ebpfnet/policies"
	}
	return "/etc/ebpfnet/policies." + instance
}

// sibling gives another instance's paths on the same bpffs.
func (p Paths) sibling(instance string) Paths {
	return pathsUnder(instance, p.BPFFSMount, "/var/lib", "/run", "/var/log")
}

// ValidateInstance says whether a name may name an instance. Names become file names on bpffs, which takes no dots.
func ValidateInstance(name string) error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`).MatchString(name) {
		return fmt.Errorf("instance name %q: must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter or a digit", name)
	}
	return nil
}

// Names in Paths.Links. None has a dot; devices appear by ifindex, because their names may have one.
const (
	tcxPrefix    = "tcx"    // tcx_<ifindex>_<program>: a link
	cgroupPrefix = "cgroup" // cgroup_<program>: a link
	qdiscPrefix  = "qdisc"  // qdisc_<ifindex>: an empty directory, there where we made the device's clsact qdisc
)

func (p Paths) tcxPin(ifindex int, program string) string {
	return filepath.Join(p.Links, fmt.Sprintf("%s_%d_%s", tcxPrefix, ifindex, program))
}

func (p Paths) cgroupPin(program string) string {
	return filepath.Join(p.Links, cgroupPrefix+"_"+program)
}

// qdiscMark is a directory because bpffs holds nothing else that costs nothing, and because it goes where the qdisc goes: with a reboot.
func (p Paths) qdiscMark(ifindex int) string {
	return filepath.Join(p.Links, fmt.Sprintf("%s_%d", qdiscPrefix, ifindex))
}

// parsePin is the inverse of tcxPin, cgroupPin and qdiscMark for a name without its directory.
func parsePin(name string) (prefix string, ifindex int, program string, ok bool) {
	prefix, rest, _ := strings.Cut(name, "_")
	switch prefix {
	case cgroupPrefix:
		return prefix, 0, rest, rest != ""
	case tcxPrefix, qdiscPrefix:
		index, program, _ := strings.Cut(rest, "_")
		ifindex, err := strconv.Atoi(index)
		if err != nil || ifindex <= 0 || (program == "") != (prefix == qdiscPrefix) {
			return "", 0, "", false
		}
		return prefix, ifindex, program, true
	}
	return "", 0, "", false
}
