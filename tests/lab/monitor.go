package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Monitor is an `ebpfnet monitor` that runs.
type Monitor struct {
	mu     sync.Mutex
	events []api.Event
	bad    string
}

// Monitor starts one and waits until it listens. The test's end ends it, as ^C does.
func (in *Instance) Monitor(t testing.TB, args ...string) *Monitor {
	t.Helper()
	cmd := in.Command(context.Background(), append([]string{"-o", "json", "monitor"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &Monitor{}
	read := make(chan struct{})
	t.Cleanup(func() { endMonitor(cmd, read) })
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			m.take(lines.Bytes())
		}
	}()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.HasPrefix(line, "listening") {
		t.Fatalf("monitor says %q, %v", line, err)
	}
	return m
}

// endMonitor ends the command, once all is read that it had to say.
func endMonitor(cmd *exec.Cmd, read <-chan struct{}) {
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-read
	_ = cmd.Wait()
}

func (m *Monitor) take(line []byte) {
	var e api.Event
	err := json.Unmarshal(line, &e)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
	if err != nil {
		m.bad = string(line)
	}
}

// All gives the events so far that match.
func (m *Monitor) All(match func(api.Event) bool) []api.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []api.Event
	for _, e := range m.events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// Find waits for an event.
func (m *Monitor) Find(t testing.TB, what string, match func(api.Event) bool) api.Event {
	t.Helper()
	var found []api.Event
	Eventually(t, Patience, func() error {
		found = m.All(match)
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case m.bad != "":
			return fmt.Errorf("no JSON: %s", m.bad)
		case len(found) == 0:
			return fmt.Errorf("no %s among %d events", what, len(m.events))
		}
		return nil
	})
	return found[0]
}
