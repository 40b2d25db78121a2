package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docker is a dockerd of our own, and its containerd, inside a namespace.
type docker struct {
	dir        string
	socket     string // unix://…
	containerd *daemon
	dockerd    *daemon
	args       []string
	ns         *Netns
	ledger     *ledger
}

// containerdConfig keeps containerd to its own folder, and leaves out what the tests do not need and what looks for the machine's devices.
const containerdConfig = `version = 2
root = "%[1]s/containerd/root"
state = "%[1]s/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "%[1]s/containerd/sock"
[ttrpc]
  address = "%[1]s/containerd/ttrpc"
`

// newDocker writes what the daemons are started with; nothing runs yet. Their containerd is their own even where the machine's runs. The storage driver is the
// one that works on every file system; a control group of our own keeps the machine's dockerd's apart, on version 1 and 2 alike.
func newDocker(s *Suite, ns *Netns, name string, flags []string) (*docker, error) {
	top, err := s.dir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(top, name)
	d := &docker{dir: dir, socket: "unix://" + dir + "/docker.sock", ns: ns, ledger: &s.ledger}
	if err := os.MkdirAll(filepath.Join(dir, "containerd"), 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, containerdConfig, dir), 0o600); err != nil {
		return nil, err
	}
	empty := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(empty, []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	d.args = append([]string{
		"--config-file", empty, "--containerd", dir + "/containerd/sock", "--data-root", dir + "/data", "--exec-root", dir + "/exec",
		"--host", d.socket, "--pidfile", dir + "/docker.pid", "--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + s.prefix + "-" + name,
	}, flags...)
	return d, nil
}

// begin starts the daemons, with more flags for dockerd, and loads the image.
func (d *docker) begin(s *Suite, flags ...string) (err error) {
	d.args = append(d.args, flags...)
	log, conf := filepath.Join(d.dir, "containerd.log"), filepath.Join(d.dir, "containerd.toml")
	if d.containerd, err = startDaemon(d.ledger, d.ns, log, "containerd", "--config", conf); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	image, err := s.image()
	if err == nil {
		_, err = d.run(bytes.NewReader(image), "import", "--change", `CMD ["/bin/probe", "serve"]`, "-", Image)
	}
	return err
}

// start starts dockerd and waits until it answers.
func (d *docker) start() error {
	var err error
	if d.dockerd, err = startDaemon(d.ledger, d.ns, filepath.Join(d.dir, "docker.log"), "dockerd", d.args...); err != nil {
		return err
	}
	return try(time.Minute, func() error {
		if err := d.dockerd.exited(); err != nil {
			return err
		}
		return d.ping()
	})
}

// ping asks dockerd whether it answers. The docker command would take longer than dockerd takes to start, and a processor of it.
func (d *docker) ping() error {
	path := strings.TrimPrefix(d.socket, "unix://")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	r, err := client.Get("http://docker/_ping")
	if err != nil {
		return fmt.Errorf("ask dockerd: %w", err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("ask dockerd: it answers %s", r.Status)
	}
	return nil
}

func (d *docker) close() error {
	var errs []error
	if d.dockerd != nil {
		if ids, err := d.run(nil, "ps", "--all", "--quiet"); err == nil && ids != "" {
			_, err = d.run(nil, append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
			errs = append(errs, err)
		}
		errs = append(errs, d.dockerd.stop())
	}
	if d.containerd != nil {
		errs = append(errs, d.containerd.stop())
	}
	group := d.args[len(d.args)-1]
	for i, a := range d.args {
		if a == "--cgroup-parent" {
			group = d.args[i+1]
		}
	}
	errs = append(errs, removeGroups(group))
	// dockerd leaves its own mounts of namespaces and shared memory where a container died with it.
	mounts, err := os.ReadFile("/proc/self/mounts")
	errs = append(errs, err)
	for line := range strings.Lines(string(mounts)) {
		if point := strings.Fields(line)[1]; strings.HasPrefix(point, d.dir+"/") {
			errs = append(errs, syscall.Unmount(point, syscall.MNT_DETACH))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// removeGroups removes what dockerd leaves: its parent group, in each hierarchy.
func removeGroups(name string) error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup" + name, "/sys/fs/cgroup/*" + name} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, dir := range found {
			errs = append(errs, try(5*time.Second, func() error { return endGroup(dir) }))
		}
	}
	return errors.Join(errs...)
}

// endGroup removes a group and those in it, and ends what still runs there: with live-restore, containers outlive a dockerd that a test has
// stopped.
func endGroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dirs = append(dirs, path)
		pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := syscall.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// run runs the docker command and returns its output without the last newline.
func (d *docker) run(stdin *bytes.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.socket, "DOCKER_CONFIG="+d.dir, "DOCKER_CONTEXT=")
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Docker runs the docker command against the host's own dockerd.
func (h *Host) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.docker.run(nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// StopDocker ends dockerd as a service manager does. Without live-restore its containers end with it.
func (h *Host) StopDocker(t testing.TB) {
	t.Helper()
	if err := h.docker.dockerd.stop(); err != nil {
		t.Fatal(err)
	}
}

// KillDocker ends dockerd without a word, in the middle of whatever it does. Its containers go on.
func (h *Host) KillDocker(t testing.TB) {
	t.Helper()
	if err := h.docker.dockerd.kill(); err != nil {
		t.Fatal(err)
	}
}

// StartDocker starts dockerd again, with what it was started with and more flags, and waits until it answers.
func (h *Host) StartDocker(t testing.TB, flags ...string) {
	t.Helper()
	h.docker.args = append(h.docker.args, flags...)
	if err := h.docker.start(); err != nil {
		t.Fatal(err)
	}
}

// TryDocker is Docker for what may fail.
func (h *Host) TryDocker(args ...string) (string, error) { return h.docker.run(nil, args...) }

// DockerHost is where the host's dockerd listens.
func (h *Host) DockerHost() string { return h.docker.socket }
