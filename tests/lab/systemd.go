package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Systemd is a systemd that runs as the first process of a Root: with processes, mounts, control groups and a name of its own, in its
// host's network. Its units are those that the test installs, and the journal.
type Systemd struct {
	root   *Root
	daemon *daemon
	group  string
}

// bootScript makes the Root the only file system that there is, and becomes systemd. In: the Root, and the folder of the control group
// that is to be systemd's own.
const bootScript = `
set -e
echo 0 >"$2/cgroup.procs"
cd "$1"
exec unshare --cgroup sh -e -c '
mount --make-rprivate /
umount -l proc sys/fs/cgroup dev
mount -t proc proc proc
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
	set -- $node
	mknod -m 666 dev/$1 c $2 $3
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p mnt
pivot_root . mnt
umount -l mnt
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --show-status=no
'
`

// Boot starts systemd and waits until it has come up. It runs until the test ends, or until Shutdown.
func (r *Root) Boot(t testing.TB) *Systemd {
	t.Helper()
	hierarchy, err := unified()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bare(); err != nil {
		t.Fatal(err)
	}
	s := &Systemd{root: r, group: filepath.Join(hierarchy, filepath.Base(filepath.Dir(r.path)))}
	if err := os.MkdirAll(s.visitors(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t) })
	cmd := r.host.NS.Command(context.Background(), "sh", "-c", bootScript, "boot", r.path, s.group)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, // on SIGTERM a systemd starts itself anew
	}
	log := filepath.Join(filepath.Dir(r.path), "systemd.log")
	if s.daemon, err = startCommand(&r.host.suite.ledger, cmd, log, "systemd"); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, func() error {
		if err := s.daemon.exited(); err != nil {
			return err
		}
		out, err := s.Command(context.Background(), "systemctl", "is-system-running").Output()
		if state := strings.TrimSpace(string(out)); state != "running" && state != "degraded" {
			return fmt.Errorf("systemd is %q: %w", state, err)
		}
		return nil
	})
	return s
}

// bare takes from a Root's systemd all that the machine's starts, and what keeps packages from starting theirs, and leaves the journal. What is installed after the first boot stays.
func (r *Root) bare() error {
	if r.booted {
		return nil
	}
	r.booted = true
	var errs []error
	for _, pattern := range []string{
		"/usr/sbin/policy-rc.d", "/etc/fstab", "/etc/systemd/system/*", "/usr/lib/systemd/system-generators/*", "/usr/lib/systemd/system-environment-generators/*",
		"/usr/lib/systemd/system/*.wants/*",
	} {
		found, err := filepath.Glob(r.Path(pattern))
		errs = append(errs, err)
		for _, f := range found {
			if !strings.HasPrefix(filepath.Base(f), "systemd-journald") {
				errs = append(errs, os.RemoveAll(f))
			}
		}
	}
	return errors.Join(errs...)
}

// unified finds where the second version of control groups is mounted.
func unified() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup2 is mounted")
}

// Command runs a program inside, beside systemd, in a control group below systemd's own.
func (s *Systemd) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-ec",
		`echo 0 >"$0/cgroup.procs"; pid=$1; shift; exec nsenter --target "$pid" --all --root --wd -- "$@"`,
		s.visitors(), fmt.Sprint(s.daemon.cmd.Process.Pid), name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_COLORS=0"}
	return cmd
}

// visitors is the control group of what Command runs.
func (s *Systemd) visitors() string { return filepath.Join(s.group, "visitors") }

// Try runs a program inside that may fail, and returns all that it says.
func (s *Systemd) Try(name string, args ...string) (string, error) {
	return said(s.Command(context.Background(), name, args...), name, args)
}

// Run is Try for what must succeed.
func (s *Systemd) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := s.Try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Property is what systemd says of a unit.
func (s *Systemd) Property(t testing.TB, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(s.Run(t, "systemctl", "show", "--property", name, "--value", unit))
}

// Shutdown has systemd stop its units and end, if it runs.
func (s *Systemd) Shutdown(t testing.TB) {
	t.Helper()
	if s.daemon != nil && s.daemon.exited() == nil {
		const halt = syscall.Signal(34 + 3) // SIGRTMIN+3, systemd(1)
		if err := s.daemon.cmd.Process.Signal(halt); err != nil {
			t.Error(err)
		}
		select {
		case <-s.daemon.done:
		case <-time.After(time.Minute):
			t.Error("systemd does not come to an end")
			_ = s.daemon.cmd.Process.Kill()
			<-s.daemon.done
		}
	}
	if err := try(5*time.Second, func() error { return endGroup(s.group) }); err != nil {
		t.Error(err)
	}
}
