package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Root is a file system like the machine's, for a host, in which packages can be installed: what is changed goes into a folder of its own,
// Changes, and the machine keeps what it has. /run and the bpffs are empty at first, and so are the product's folders.
type Root struct {
	Changes string
	path    string
	host    *Host
	booted  bool
}

// Root makes one that lasts until the test ends.
func (h *Host) Root(t testing.TB) *Root {
	t.Helper()
	top, err := h.suite.dir()
	if err != nil {
		t.Fatal(err)
	}
	top = filepath.Join(top, fmt.Sprintf("%s-root%d", h.name, h.suite.next()))
	r := &Root{Changes: filepath.Join(top, "changes"), path: filepath.Join(top, "root"), host: h}
	for _, dir := range []string{r.Changes, r.path, filepath.Join(top, "work")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := errors.Join(syscall.Unmount(r.path, syscall.MNT_DETACH), os.RemoveAll(top)); err != nil {
			t.Errorf("take down %s: %v", r.path, err)
		}
	})
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", r.Changes, filepath.Join(top, "work"))
	if err := syscall.Mount("overlay", r.path, "overlay", 0, layers); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"/proc", "proc", "", syscall.MS_BIND | syscall.MS_REC},
		{"/sys", "sys", "", syscall.MS_BIND | syscall.MS_REC},
		{"", "sys", "", syscall.MS_SLAVE | syscall.MS_REC}, // what is mounted there is nobody else's business
		{"bpf", "sys/fs/bpf", "bpf", 0},
		{"/dev", "dev", "", syscall.MS_BIND | syscall.MS_REC},
		{"tmpfs", "run", "tmpfs", 0},
	} {
		if err := syscall.Mount(m.source, filepath.Join(r.path, m.target), m.kind, m.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", m.target, err)
		}
	}
	for _, dir := range []string{"var/lib/ebpfnet", "var/log/ebpfnet"} {
		if err := os.RemoveAll(filepath.Join(r.path, dir)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Path leads to a file of the root from outside.
func (r *Root) Path(name string) string { return filepath.Join(r.path, name) }

// Docker puts the socket of the host's dockerd where programs look for it.
func (r *Root) Docker(t testing.TB) {
	t.Helper()
	at := r.Path("/run/docker.sock")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(strings.TrimPrefix(r.host.DockerHost(), "unix://"), at, "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mount docker's socket: %v", err)
	}
}

// Forget takes away what a machine does not keep when it is switched off: the bpffs with all that only pins keep, and /run.
func (r *Root) Forget(t testing.TB) {
	t.Helper()
	for _, m := range []struct{ target, kind string }{{"sys/fs/bpf", "bpf"}, {"run", "tmpfs"}} {
		at := filepath.Join(r.path, m.target)
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			t.Fatalf("unmount %s: %v", m.target, err)
		}
		if err := syscall.Mount(m.kind, at, m.kind, 0, ""); err != nil {
			t.Fatalf("mount %s: %v", m.target, err)
		}
	}
}

// Command runs a program of the root, inside the host's network.
func (r *Root) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := r.host.NS.Command(ctx, "chroot", append([]string{r.path, name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// Try runs a program that may fail, and returns all that it says.
func (r *Root) Try(name string, args ...string) (string, error) {
	return said(r.Command(context.Background(), name, args...), name, args)
}

// said runs a program to its end, and returns all that it says.
func said(cmd *exec.Cmd, name string, args []string) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Run is Try for what must succeed.
func (r *Root) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := r.Try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Start runs a program until the test ends, or until stop is called, with what it says in the test's log where it ends badly.
func (r *Root) Start(t testing.TB, name string, args ...string) (stop func()) {
	t.Helper()
	log := filepath.Join(filepath.Dir(r.path), "program.log")
	cmd := r.Command(context.Background(), name, args...)
	d, err := startCommand(&r.host.suite.ledger, cmd, log, name)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			err := d.stop()
			if code := d.cmd.ProcessState.ExitCode(); err != nil || code != 0 {
				said, _ := os.ReadFile(log)
				t.Errorf("%s ended with %d, %v:\n%s", name, code, err, said)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}
