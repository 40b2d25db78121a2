package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace. It is held by a file descriptor, so that it is never taken for a later one of the same name.
type Netns struct {
	Name string
	file *os.File
	ours bool // made by `ip netns add`
}

// newNetns makes a namespace whose loopback is up.
func newNetns(name string) (*Netns, error) {
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add namespace %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	n, err := openNetns(name, "/run/netns/"+name)
	if err != nil {
		return nil, err
	}
	n.ours = true
	if err := n.ip("link set lo up"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// openNetns takes hold of a namespace that someone else made.
func openNetns(name, path string) (*Netns, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	return &Netns{Name: name, file: file}, nil
}

// Close lets go of the namespace, and removes it where this package made it.
func (n *Netns) Close() error {
	err := n.file.Close()
	if n.ours {
		if out, derr := exec.Command("ip", "netns", "delete", n.Name).CombinedOutput(); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete namespace %s: %w: %s", n.Name, derr, bytes.TrimSpace(out)))
		}
	}
	return err
}

// Path leads to the namespace for as long as this process lives.
func (n *Netns) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do runs fn on a thread inside the namespace. Sockets that fn opens stay there; goroutines that it starts do not.
func (n *Netns) Do(fn func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	err = fn()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and dies with its goroutine rather than serve others from the wrong namespace.
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", n.Name, back))
	}
	runtime.UnlockOSThread()
	return err
}

// Command is a program that runs inside the namespace; all but the network is the machine's own, /sys/fs/bpf and control groups included.
func (n *Netns) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
}

// TryRun runs a program inside the namespace and returns what it printed.
func (n *Netns) TryRun(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := n.Command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %s %s: %w: %s", n.Name, name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Run is TryRun for what must succeed.
func (n *Netns) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.TryRun(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// IP runs ip(8) with words as they would be typed.
func (n *Netns) IP(t testing.TB, words string) string {
	t.Helper()
	return n.Run(t, "ip", strings.Fields(words)...)
}

func (n *Netns) ip(words ...string) error {
	for _, w := range words {
		if _, err := n.TryRun("ip", strings.Fields(w)...); err != nil {
			return err
		}
	}
	return nil
}

// Offload switches checksum and segmentation offload of a device for as long as the test runs. With it off, a sender finishes its checksums
// before the datapath sees them, and a receiver verifies every one.
func (n *Netns) Offload(t testing.TB, dev string, on bool) {
	t.Helper()
	set := func(state string) error {
		_, err := n.TryRun("ethtool", "-K", dev, "tx", state, "rx", state)
		return err
	}
	state := map[bool]string{true: "on", false: "off"}
	if err := set(state[on]); err != nil {
		t.Fatal(err)
	}
	// The device may be gone when the test ends, with the container that had it.
	t.Cleanup(func() { _ = set(state[!on]) })
}

// Sysctl reads a setting of the namespace, by the path below /proc/sys.
func (n *Netns) Sysctl(t testing.TB, path string) string {
	t.Helper()
	var value []byte
	err := n.Do(func() (err error) {
		value, err = os.ReadFile(filepath.Join("/proc/sys", path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(value))
}

// SetSysctl writes a setting of the namespace, which keeps it.
func (n *Netns) SetSysctl(t testing.TB, path, value string) {
	t.Helper()
	if err := n.setSysctl(path, value); err != nil {
		t.Fatalf("set %s: %v", path, err)
	}
}

func (n *Netns) setSysctl(path, value string) error {
	return n.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0) })
}

// Device is a network device of the namespace.
func (n *Netns) Device(t testing.TB, name string) *net.Interface {
	t.Helper()
	var dev *net.Interface
	err := n.Do(func() (err error) {
		dev, err = net.InterfaceByName(name)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", n.Name, name, err)
	}
	return dev
}
