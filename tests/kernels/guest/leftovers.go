package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// leftovers is everything on the machine that the product could leave behind, one line each, by kind.
type leftovers map[string][]string

// kindBPF is the kind of what the kernel frees in its own time.
const kindBPF = "bpf objects"

// look takes stock of the host.
func look() (leftovers, error) {
	l := leftovers{}
	l[kindBPF] = bpfObjects()
	for _, dir := range []string{"/sys/fs/bpf", "/run", "/var/lib"} {
		l["files"] = append(l["files"], filesUnder(dir)...)
	}
	l["sysctls"] = sysctls()
	l["processes"] = processes()
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, dev := range links {
		name := dev.Attrs().Name
		l["devices"] = append(l["devices"], name)
		qdiscs, err := netlink.QdiscList(dev)
		if err != nil {
			return nil, fmt.Errorf("list qdiscs of %s: %w", name, err)
		}
		for _, q := range qdiscs {
			l["qdiscs"] = append(l["qdiscs"], name+" "+q.Type())
		}
		entries, err := netlink.NeighList(dev.Attrs().Index, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.State&netlink.NUD_PERMANENT != 0 {
				l["neighbours"] = append(l["neighbours"], fmt.Sprintf("%s %s %s", name, e.IP, e.HardwareAddr))
			}
		}
	}
	if l["forwarding entries"], err = fdb(); err != nil {
		return nil, err
	}
	return l, nil
}

// fdb gives the bridges' entries that somebody has written; those that were learned come and go.
func fdb() ([]string, error) {
	entries, err := netlink.NeighList(0, 7) // AF_BRIDGE
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	var lines []string
	for _, e := range entries {
		if e.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
			lines = append(lines, fmt.Sprintf("%d %s %#x", e.LinkIndex, net.HardwareAddr(e.HardwareAddr), e.State))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// compare says what is there now and was not before, and what is not there any more. Programs and maps of an earlier step may have been on
// their way out before.
func (l leftovers) compare(now leftovers) error {
	var errs []error
	for kind := range now {
		for _, line := range now[kind] {
			if !slices.Contains(l[kind], line) {
				errs = append(errs, fmt.Errorf("left behind of %s: %s", kind, line))
			}
		}
	}
	for kind := range l {
		if kind == kindBPF {
			continue
		}
		for _, line := range l[kind] {
			if !slices.Contains(now[kind], line) {
				errs = append(errs, fmt.Errorf("gone of %s: %s", kind, line))
			}
		}
	}
	return errors.Join(errs...)
}

// bpfObjects lists programs, maps and links by the kernel's ids.
func bpfObjects() []string {
	var lines []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			break
		}
		lines, id = append(lines, fmt.Sprintf("program %d %s", next, programName(next))), next
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			break
		}
		lines, id = append(lines, fmt.Sprintf("map %d", next)), next
	}
	for it := new(link.Iterator); it.Next(); {
		lines = append(lines, fmt.Sprintf("link %d", it.ID))
	}
	return lines
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

func filesUnder(dir string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "ebpfnet") {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// sysctls reads the settings that a datapath for IPv4 could touch.
func sysctls() []string {
	var lines []string
	for _, pattern := range []string{"ipv4/*", "ipv4/conf/*/*", "ipv4/neigh/*/*", "bridge/*", "core/*"} {
		files, _ := filepath.Glob("/proc/sys/net/" + pattern)
		for _, f := range files {
			if value, err := os.ReadFile(f); err == nil {
				lines = append(lines, f+" = "+strings.Join(strings.Fields(string(value)), " "))
			}
		}
	}
	return lines
}

// processes are those that are programs of the product.
func processes() []string {
	var lines []string
	files, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range files {
		if name, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(name), "ebpfnet") {
			lines = append(lines, f+" "+strings.TrimSpace(string(name)))
		}
	}
	return lines
}
