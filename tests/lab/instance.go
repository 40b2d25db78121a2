package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Instance is the product on a host, under a name of its own.
type Instance struct {
	Name   string
	Host   *Host
	bin    string
	agent  *daemon // where a test started it; nil where attach did
	closed bool
}

// newInstance builds the product and names an instance; nothing runs yet.
func (h *Host) newInstance() (*Instance, error) {
	bin, err := h.suite.product()
	if err != nil {
		return nil, err
	}
	in := &Instance{Name: fmt.Sprintf("%s-%s-%d", h.suite.prefix, h.World, h.suite.next()), Host: h, bin: bin}
	h.suite.ledger.instance(in.Name)
	h.instances = append(h.instances, in)
	return in, nil
}

// SharedInstance is the instance that a shared host's tests have in common. The first of them attaches it.
func (h *Host) SharedInstance(t testing.TB, attach ...string) *Instance {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shared == nil {
		in, err := h.newInstance()
		if err != nil {
			t.Fatal(err)
		}
		in.Attach(t, attach...)
		h.shared = in
	}
	return h.shared
}

// Instance names an instance for one test, which takes everything off when it ends.
func (h *Host) Instance(t testing.TB) *Instance {
	t.Helper()
	in, err := h.newInstance()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Errorf("close instance: %v", err)
		}
	})
	return in
}

// Command is the product's command line inside the host's namespace, with the host's dockerd.
func (in *Instance) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := in.Host.NS.Command(ctx, in.bin, append([]string{"--instance", in.Name}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+in.Host.DockerHost())
	cmd.WaitDelay = 10 * time.Second // an agent that kept its parent's output open would hold Run up for ever
	return cmd
}

// Outcome is what a command printed and how it ended.
type Outcome struct {
	Stdout, Stderr string
	Code           int
}

// Try runs a command that may fail.
func (in *Instance) Try(t testing.TB, args ...string) Outcome {
	t.Helper()
	o, err := in.try(args...)
	if err != nil {
		t.Fatalf("ebpfnet %s: %v", strings.Join(args, " "), err)
	}
	return o
}

func (in *Instance) try(args ...string) (Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := in.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		return Outcome{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return Outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// Run runs a command that must succeed, and returns what it printed.
func (in *Instance) Run(t testing.TB, args ...string) string {
	t.Helper()
	o := in.Try(t, args...)
	if o.Code != 0 {
		t.Fatalf("ebpfnet %s: exit %d: %s%s", strings.Join(args, " "), o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

// Attach attaches, and remembers the agent that may have started.
func (in *Instance) Attach(t testing.TB, args ...string) string {
	t.Helper()
	out := in.Run(t, append([]string{"attach"}, args...)...)
	in.Watch()
	return out
}

// Watch notes the agent's process, which must be gone in the end. Attach does so by itself.
func (in *Instance) Watch() {
	var s api.Status
	if o, err := in.try("-o", "json", "status"); err == nil && json.Unmarshal([]byte(o.Stdout), &s) == nil && s.Agent.PID > 0 {
		in.Host.suite.ledger.process(s.Agent.PID, "agent of "+in.Name)
	}
}

// running says why no agent answers, or nil. What status prints without one does not count.
func (in *Instance) running() error {
	o, err := in.try("-o", "json", "status")
	if err != nil {
		return err
	}
	return Running(o.Stdout)
}

// Running reads what `ebpfnet -o json status` printed: nil where an agent answered.
func Running(status string) error {
	var s api.Status
	if err := json.Unmarshal([]byte(status), &s); err != nil {
		return fmt.Errorf("read status: %w in %q", err, status)
	}
	if !s.Agent.Running {
		return fmt.Errorf("no agent runs: %s", status)
	}
	return nil
}

// Close takes everything off, and ends an agent that outlives that.
func (in *Instance) Close() error {
	if in.closed {
		return nil
	}
	in.closed = true
	var s api.Status
	if o, err := in.try("-o", "json", "status"); err == nil {
		_ = json.Unmarshal([]byte(o.Stdout), &s)
	}
	o, err := in.try("detach", "--all", "--yes")
	if err == nil && o.Code != 0 {
		err = fmt.Errorf("detach --all: %s", strings.TrimSpace(o.Stderr))
	}
	if in.agent != nil && in.agent.exited() == nil {
		err = errors.Join(err, in.agent.stop())
	}
	if s.Agent.PID > 0 {
		gone := try(5*time.Second, func() error {
			if Alive(s.Agent.PID) {
				return fmt.Errorf("agent %d of %s outlives detach --all", s.Agent.PID, in.Name)
			}
			return nil
		})
		if gone != nil {
			_ = syscall.Kill(s.Agent.PID, syscall.SIGKILL)
		}
		err = errors.Join(err, gone)
	}
	return err
}

// JSON runs a command with `-o json` and decodes what it prints.
func (in *Instance) JSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out := in.Run(t, append([]string{"-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("ebpfnet %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// Status is `ebpfnet status`.
func (in *Instance) Status(t testing.TB) api.Status {
	t.Helper()
	var s api.Status
	in.JSON(t, &s, "status")
	return s
}

// Endpoints is `ebpfnet endpoint list`.
func (in *Instance) Endpoints(t testing.TB) []api.Endpoint {
	t.Helper()
	var l []api.Endpoint
	in.JSON(t, &l, "endpoint", "list")
	return l
}

// Ports is `ebpfnet port list`.
func (in *Instance) Ports(t testing.TB) []api.Port {
	t.Helper()
	var l []api.Port
	in.JSON(t, &l, "port", "list")
	return l
}

// Flows is `ebpfnet flow list`.
func (in *Instance) Flows(t testing.TB, args ...string) []api.Flow {
	t.Helper()
	var l []api.Flow
	in.JSON(t, &l, append([]string{"flow", "list"}, args...)...)
	return l
}

// Endpoint waits until an address is an endpoint's, and returns it.
func (in *Instance) Endpoint(t testing.TB, ip netip.Addr) api.Endpoint {
	t.Helper()
	var found api.Endpoint
	Eventually(t, Patience, func() error {
		for _, e := range in.Endpoints(t) {
			for _, a := range e.Addresses {
				if p, err := netip.ParsePrefix(a); a == ip.String() || err == nil && p.Addr() == ip {
					found = e
					return nil
				}
			}
		}
		return fmt.Errorf("%s is not an endpoint", ip)
	})
	return found
}

// Report logs what the product says about itself, for a test that has failed.
func (in *Instance) Report(t testing.TB) {
	for _, args := range [][]string{{"status"}, {"endpoint", "list"}, {"port", "list"}, {"flow", "list"}} {
		if o, err := in.try(args...); err == nil {
			t.Logf("ebpfnet %s:\n%s%s", strings.Join(args, " "), o.Stdout, o.Stderr)
		}
	}
	if log, err := os.ReadFile("/var/log/ebpfnet/" + in.Name + ".log"); err == nil {
		t.Logf("agent's log:\n%s", log[max(0, len(log)-4000):])
	}
	if m, err := in.Metrics(); err == nil {
		t.Logf("counters:\n%s", m.nonzero())
	}
}
