package loader

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckPrivileges says whether this process may load and attach programs: as root, or with CAP_BPF and CAP_NET_ADMIN.
func CheckPrivileges() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("get capabilities: %w", err)
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if has(unix.CAP_NET_ADMIN) && (has(unix.CAP_BPF) || has(unix.CAP_SYS_ADMIN)) {
		return nil
	}
	return errors.New("no privileges: run it as root, or with the capabilities CAP_BPF and CAP_NET_ADMIN")
}

// CheckBPFFS says whether the instance's directory stands, or would stand, on a bpffs. None is mounted here: a mount made inside a private
// mount namespace would vanish with it, and all pins too.
func CheckBPFFS(p Paths) error {
	// The directory itself may not be there yet.
	dir := p.BPFFS
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil && int64(st.Type) == unix.BPF_FS_MAGIC {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("statfs %s: %w", dir, err)
		}
		if err == nil || dir == p.BPFFSMount || dir == filepath.Dir(dir) {
			return fmt.Errorf("no bpffs at %s: mount it with `mount -t bpf bpf %[1]s`", p.BPFFSMount)
		}
		dir = filepath.Dir(dir)
	}
}

// CgroupRoot gives the mount point of the host's cgroup2 hierarchy, wherever it is: beside the version 1 hierarchies it often is
// /sys/fs/cgroup/unified. The error says what to do where there is none.
func CgroupRoot() (string, error) { return cgroupRoot("/proc/self/mountinfo") }

func cgroupRoot(mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	defer f.Close()
	path, err := findCgroup2(f)
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	if path == "" {
		return "", errors.New("find cgroup2: not mounted: mount it with `mount -t cgroup2 cgroup2 DIRECTORY`")
	}
	return path, nil
}

// findCgroup2 reads the format of /proc/PID/mountinfo, proc(5), and gives the first mount of a whole cgroup2 hierarchy; "" where there is
// none. A mount of a part of it (a container's, seen from outside) is not the host's.
func findCgroup2(r io.Reader) (string, error) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		mount, super, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) >= 5 && strings.HasPrefix(super, "cgroup2 ") && fields[3] == "/" {
			return unescape.Replace(fields[4]), nil
		}
	}
	return "", lines.Err()
}

// explain adds to a refusal by the kernel what may stand behind it, for callers that have passed CheckPrivileges.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the kernel's lockdown, a security module or a seccomp filter forbids bpf()", err)
	}
	return err
}
