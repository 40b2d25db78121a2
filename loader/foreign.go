package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Foreign is a program of somebody else's on a hook that this project uses.
type Foreign struct {
	Ifindex int    // 0 for the control group
	Hook    string // "tcx ingress", "clsact egress", "cgroup connect4" and so on
	Program string // its name, or "program 12" where the name may not be asked for
}

// ForeignPrograms lists what others have on the hooks of devices of the calling thread's network namespace, and on those of the root control
// group. Programs of this project, whichever instance's, are not listed. XDP programs are no business of this function.
func ForeignPrograms(p Paths, ifindexes []int) ([]Foreign, error) {
	ours, err := ourPrograms(p)
	if err != nil {
		return nil, fmt.Errorf("list foreign programs: %w", err)
	}
	var all []Foreign
	for _, ifindex := range ifindexes {
		for _, dir := range []direction{ingress, egress} {
			word := map[direction]string{ingress: "ingress", egress: "egress"}[dir]
			ids, err := queryPrograms(ifindex, dir.tcx())
			if err != nil {
				return nil, fmt.Errorf("list programs on device %d: %w", ifindex, err)
			}
			for _, id := range ids {
				if !ours[id] {
					all = append(all, Foreign{ifindex, hookTCX + " " + word, programName(id)})
				}
			}
			there, err := filters(ifindex, dir)
			if err != nil {
				return nil, err
			}
			for _, f := range there {
				if program, _ := parseFilter(f); program != "" {
					continue
				}
				name := f.kind
				if f.name != "" {
					name += " " + f.name
				}
				all = append(all, Foreign{ifindex, hookClsact + " " + word, name})
			}
		}
	}
	sockets, err := foreignSockets(ours)
	return append(all, sockets...), err
}

// foreignSockets lists what others have on the root control group's hooks for sockets. Without the group there are none.
func foreignSockets(ours map[ebpf.ProgramID]bool) ([]Foreign, error) {
	root, err := CgroupRoot()
	if err != nil {
		return nil, nil
	}
	dir, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("list programs on %s: %w", root, err)
	}
	defer dir.Close()
	var all []Foreign
	for _, s := range sockPrograms() {
		ids, err := queryPrograms(int(dir.Fd()), s.attach)
		if err != nil {
			return nil, fmt.Errorf("list programs on %s: %w", root, err)
		}
		for _, id := range ids {
			// Every instance has its own there, and they act in their own network namespaces only.
			if name := programName(id); !ours[id] && name != kernelName(s.name) {
				all = append(all, Foreign{0, "cgroup " + s.name[len("sock_"):], name})
			}
		}
	}
	return all, nil
}

// queryPrograms lists what is on a hook. A kernel without the hook has nothing there.
func queryPrograms(target int, attach ebpf.AttachType) ([]ebpf.ProgramID, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: attach})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []ebpf.ProgramID
	for _, p := range r.Programs {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// ourPrograms are the programs behind all links that any instance has pinned.
func ourPrograms(p Paths) (map[ebpf.ProgramID]bool, error) {
	pins, err := filepath.Glob(filepath.Join(filepath.Dir(p.BPFFS), "*", filepath.Base(p.Links), "*"))
	if err != nil {
		return nil, err
	}
	ours := map[ebpf.ProgramID]bool{}
	for _, pin := range pins {
		if prefix, _, _, ok := parsePin(filepath.Base(pin)); !ok || prefix == qdiscPrefix {
			continue
		}
		l, err := link.LoadPinnedLink(pin, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			return nil, err
		}
		ours[info.Program] = true
	}
	return ours, nil
}

// programName asks for a name, which needs CAP_SYS_ADMIN.
func programName(id ebpf.ProgramID) string {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("program %d", id)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil || info.Name == "" {
		return fmt.Sprintf("program %d", id)
	}
	return info.Name
}

// kernelName is what the kernel keeps of a program's name (BPF_OBJ_NAME_LEN, with its closing zero).
func kernelName(name string) string { return name[:min(len(name), 15)] }
