package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/bench/meter/result"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// The processors that the two ends run on. Requests and connections are asked for on the server's own: what is measured then is what a
// packet's way costs, and not how long an idle processor takes to wake up. Elsewhere each end has its own.
const (
	serverCPU = "1"
	otherCPU  = "0"
)

// port is the meter's; it uses the next one too.
const port = 7000

// meter is the program at both ends.
type meter struct{ bin string }

func newMeter(t *testing.T) meter {
	t.Helper()
	suite.Require(t)
	bin, err := suite.Build("./tests/bench/meter")
	if err != nil {
		t.Fatal(err)
	}
	return meter{bin}
}

// command is the program inside a namespace and on one processor.
func (m meter) command(ctx context.Context, ns *lab.Netns, cpu string, args ...string) *exec.Cmd {
	return ns.Command(ctx, "taskset", append([]string{"--cpu-list", cpu, m.bin}, args...)...)
}

// start runs the program until the test ends.
func (m meter) start(t *testing.T, ns *lab.Netns, cpu string, args ...string) {
	t.Helper()
	cmd := m.command(context.Background(), ns, cpu, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// serve answers in a namespace, on the meter's port and these, until the test ends.
func (m meter) serve(t *testing.T, ns *lab.Netns, more ...int) {
	t.Helper()
	args := []string{"serve", strconv.Itoa(port)}
	for _, p := range more {
		args = append(args, strconv.Itoa(p))
	}
	m.start(t, ns, serverCPU, args...)
	for _, p := range append(more, port) {
		lab.Eventually(t, lab.Patience, func() error {
			_, err := ns.TryRun(m.bin, tcpRequests, fmt.Sprintf("127.0.0.1:%d", p), "1ms")
			return err
		})
	}
}

// ends are where a way begins, and what is dialled there.
type ends struct {
	from *lab.Netns
	to   netip.AddrPort
}

// sample runs a workload once.
func (m meter) sample(e ends, workload string, d time.Duration) (Sample, error) {
	before, err := busy()
	if err != nil {
		return Sample{}, err
	}
	out, err := m.ask(e, workload, d)
	if err != nil {
		return Sample{}, err
	}
	after, err := busy()
	if err != nil {
		return Sample{}, err
	}
	var r result.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return Sample{}, err
	}
	if r.Count == 0 || r.Seconds == 0 {
		return Sample{}, errors.New("nothing arrived")
	}
	return Sample{
		Rate: float64(r.Count) / r.Seconds, P50: r.P50, P99: r.P99, P999: r.P999, CPU: float64((after - before).Nanoseconds()) / float64(r.Count),
	}, nil
}

// ask returns what the meter writes.
func (m meter) ask(e ends, workload string, d time.Duration) ([]byte, error) {
	cpu, args := otherCPU, []string{strings.TrimSuffix(workload, apart), e.to.String(), d.String()}
	switch workload {
	case tcpRequests, udpRequests, connections:
		cpu = serverCPU
	case manyStreams:
		args = append([]string{oneStream}, append(args[1:], "4")...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+30*time.Second)
	defer cancel()
	out, err := m.command(ctx, e.from, cpu, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %s", e.from.Name, exit.Stderr)
	}
	return out, err
}

// busy is how long the machine's processors have worked, interrupts included (proc(5), /proc/stat).
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	const idle, iowait, steal, tick = 4, 5, 8, 10 * time.Millisecond
	var sum time.Duration
	for i, f := range strings.Fields(line) {
		if i == 0 || i == idle || i == iowait || i >= steal {
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
