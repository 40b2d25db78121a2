package loader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// K-1: socket programs are replaced in place, and others' stay (K-3).
func TestSockets(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	needCookie(t, f)
	mountinfo := newCgroup(t)
	foreign, err := trivialProgram(ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: mustCgroupRoot(t, mountinfo), Attach: ebpf.AttachCGroupInet4Connect, Program: foreign})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3 {
		d := loadEmpty(t, p, f)
		d.mountinfo = mountinfo
		for range 2 {
			if err := d.AttachSockets(); err != nil {
				t.Fatal(err)
			}
		}
		if n := sockCount(t, mountinfo); n != len(sockPrograms())+1 {
			t.Errorf("%d programs, want %d and a foreign one", n, len(sockPrograms()))
		}
		got := sockProgramIDs(t, mustCgroupRoot(t, mountinfo), ebpf.AttachCGroupInet4Connect)
		if diff := cmp.Diff([]uint32{programID(t, foreign), programID(t, d.Sock.SockConnect4)}, got); diff != "" {
			t.Error(diff)
		}
	}
	d := loadEmpty(t, p, f)
	if err := d.DetachSockets(); err != nil {
		t.Fatal(err)
	}
	if n := sockCount(t, mountinfo); n != 1 {
		t.Errorf("%d programs left, want the foreign one", n)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

// A kernel without the later hooks gets the programs for the others.
func TestSocketsWithoutGetpeername(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	needCookie(t, f)
	f.CgroupGetpeername = false
	d := loadEmpty(t, p, f)
	d.mountinfo = newCgroup(t)
	if err := d.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	if n := sockCount(t, d.mountinfo); n != 6 {
		t.Errorf("%d programs, want 6", n)
	}
	if got := strings.Join(d.Notes(), ";"); !strings.Contains(got, "getpeername") {
		t.Errorf("Notes() = %q", got)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

// K-13: without cgroup2, or hooks in it, the rest works, and the problem is told until it is mended.
func TestSocketsDegrade(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	f.CgroupSock = false
	d := loadEmpty(t, p, f)
	if err := d.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Problems(), ";"); !strings.Contains(got, "CONFIG_CGROUP_BPF") {
		t.Errorf("Problems() = %q", got)
	}

	f = probed(t, "")
	needCookie(t, f)
	d = loadEmpty(t, p, f)
	d.mountinfo = filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(d.mountinfo, []byte("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Problems(), ";"); !strings.Contains(got, "mount -t cgroup2") {
		t.Errorf("Problems() = %q", got)
	}
	if err := d.AttachVeth(newVeth(t, "c0", 0)); err != nil {
		t.Error(err)
	}
	d.mountinfo = newCgroup(t)
	if err := d.AttachSockets(); err != nil {
		t.Fatal(err)
	}
	if got := d.Problems(); got != nil {
		t.Errorf("Problems() = %v after a cgroup2 is there", got)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

func TestFindCgroup2(t *testing.T) {
	for _, tt := range []struct{ name, mountinfo, want string }{
		{"none", "31 23 0:28 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", ""},
		{"unified", "41 23 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"hybrid", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n", "/sys/fs/cgroup/unified"},
		{"part of it first", "40 23 0:38 /docker/x /x/sys/fs/cgroup ro - cgroup2 cgroup rw\n41 23 0:38 / /c rw - cgroup2 cgroup2 rw\n", "/c"},
		{"space", "41 23 0:38 / /a\\040b rw - cgroup2 cgroup2 rw\n", "/a b"},
		{"torn", "41 23 0:38\n - \n\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findCgroup2(strings.NewReader(tt.mountinfo))
			if err != nil || got != tt.want {
				t.Errorf("findCgroup2() = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// newCgroup makes a cgroup to attach to, so that nobody else's sockets are touched, and gives a mountinfo that names it.
func newCgroup(t *testing.T) string {
	t.Helper()
	root, err := CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "ebpfnet-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(dir); err != nil {
			t.Error(err)
		}
	})
	mountinfo := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(mountinfo, []byte("41 31 0:38 / "+dir+" rw - cgroup2 cgroup2 rw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return mountinfo
}

func mustCgroupRoot(t *testing.T, mountinfo string) string {
	t.Helper()
	root, err := cgroupRoot(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func sockProgramIDs(t *testing.T, root string, attach ebpf.AttachType) []uint32 {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	there, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: attach})
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint32
	for _, p := range there.Programs {
		ids = append(ids, uint32(p.ID))
	}
	return ids
}

// sockCount counts the socket programs of anybody on the test's cgroup.
func sockCount(t *testing.T, mountinfo string) int {
	t.Helper()
	n := 0
	for _, p := range sockPrograms() {
		n += len(sockProgramIDs(t, mustCgroupRoot(t, mountinfo), p.attach))
	}
	return n
}
