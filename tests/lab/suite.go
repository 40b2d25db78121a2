package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Suite is what one test process builds and shares. Its zero value is not useful; see NewSuite.
type Suite struct {
	prefix string                 // of every name on the machine
	dir    func() (string, error) // a folder; its path is short, because unix sockets stand in it
	image  func() ([]byte, error) // the containers' root file system, a tar archive
	ledger ledger

	hostMu sync.Mutex // held while a shared host is made
	hosts  map[World]*Host

	mu     sync.Mutex // of what follows
	seq    int
	binary map[string]func() (string, error)
}

// NewSuite makes an empty suite; nothing is built before a test asks for it.
func NewSuite() *Suite {
	s := &Suite{
		prefix: fmt.Sprintf("ebl-%d", os.Getpid()),
		hosts:  map[World]*Host{},
		binary: map[string]func() (string, error){},
	}
	s.dir = sync.OnceValues(func() (string, error) {
		if err := sweep(); err != nil {
			return "", fmt.Errorf("sweep: %w", err)
		}
		dir, err := os.MkdirTemp("", s.prefix+"-")
		if err != nil {
			return "", err
		}
		return dir, os.Chmod(dir, 0o711) // binaries in it are for every user
	})
	s.image = sync.OnceValues(s.buildImage)
	return s
}

// Run is the body of TestMain: it runs the tests, takes everything down, and fails where something is left behind.
func (s *Suite) Run(m *testing.M) int {
	restore, err := deepenBacklog()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	code := m.Run()
	if err := errors.Join(s.close(), restore()); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		code = max(code, 1)
	}
	return code
}

// Require stops the test where the machine cannot run it: a failure where CI=true, a skip elsewhere.
func (s *Suite) Require(t testing.TB) {
	t.Helper()
	missing := prerequisites()
	if len(missing) == 0 {
		return
	}
	msg := "needs " + strings.Join(missing, ", ")
	if os.Getenv("CI") == "true" {
		t.Fatal(msg)
	}
	t.Skip(msg)
}

func prerequisites() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for tool, pkg := range map[string]string{
		"ip": "iproute2", "nsenter": "util-linux", "dockerd": "docker.io", "docker": "docker.io", "containerd": "containerd",
		"runc": "runc", "iptables": "iptables", "ethtool": "ethtool", "nft": "nftables", "conntrack": "conntrack", "curl": "curl", "busybox": "busybox-static",
		"etcd": "etcd-server", "etcdctl": "etcd-client", "go": "the Go toolchain",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, fmt.Sprintf("%s (from %s)", tool, pkg))
		}
	}
	return missing
}

// SharedHost is the host of that world that the tests have in common. Tests that change what others rely on take NewHost instead.
func (s *Suite) SharedHost(t testing.TB, w World) *Host {
	t.Helper()
	s.Require(t)
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	if h, ok := s.hosts[w]; ok {
		return h
	}
	h, err := s.newHost(w, w.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.hosts[w] = h
	return h
}

// NewHost makes a host for this test alone. Flags are dockerd's, beside those of the world.
func (s *Suite) NewHost(t testing.TB, w World, flags ...string) *Host {
	t.Helper()
	s.Require(t)
	h, err := s.newHost(w, fmt.Sprintf("%s%d", w, s.next()), flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host: %v", err)
		}
	})
	return h
}

// next numbers what needs a name of its own.
func (s *Suite) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	return s.seq
}

func (s *Suite) close() error {
	var errs []error
	for _, h := range s.hosts {
		errs = append(errs, h.Close())
	}
	if dir, err := s.dir(); err == nil {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(append(errs, s.leaks())...)
}

// product is the binary under test: the one that EBPFNET_BINARY names, or one that is built from this module.
func (s *Suite) product() (string, error) {
	if path := os.Getenv("EBPFNET_BINARY"); path != "" {
		return path, nil
	}
	return s.Build("./cmd/ebpfnet")
}

// Build builds a package of this module once, statically, and returns the binary's path.
func (s *Suite) Build(pkg string) (string, error) {
	s.mu.Lock()
	build, ok := s.binary[pkg]
	if !ok {
		build = sync.OnceValues(func() (string, error) { return s.build(pkg) })
		s.binary[pkg] = build
	}
	s.mu.Unlock()
	return build()
}

func (s *Suite) build(pkg string) (string, error) {
	dir, err := s.dir()
	if err != nil {
		return "", err
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return out, nil
}
