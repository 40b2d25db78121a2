package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// K-6: an agent that is started with other sizes than the one before gives them to the tables, which keep what is in them: connections of every
// direction go on, whichever half of them has to be found.
func TestResize(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		web, n := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "n")
		s.Remote.Serve(t, "far", ":7000")
		flows := map[string]*lab.Client{
			"in":      s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
			"in udp":  s.Remote.Dial(t, "udp", lab.At(lab.HostIP, 8080)),
			"out":     n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
			"out udp": n.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000)),
			"local":   n.NS.Dial(t, "tcp", web.At(80)),
			"host":    s.NS.Dial(t, "tcp", lab.At("127.0.0.1", 8080)),
		}
		clients := map[string]string{}
		check := func(when string) {
			t.Helper()
			for name, flow := range flows {
				a, err := flow.TryAsk()
				if err != nil {
					t.Errorf("%s: %s: %v", when, name, err)
					continue
				}
				if before, ok := clients[name]; ok && a.Client != before {
					t.Errorf("%s: %s: its client was %s, and is %s", when, name, before, a.Client)
				}
				clients[name] = a.Client
			}
		}
		entries := func(when string) {
			t.Helper()
			// What goes by an entry is counted where the datapath carries it; a flow that was forgotten would be the kernel's, or nobody's.
			if got := len(s.Flows(t)); got < len(flows)-1 {
				t.Errorf("%s: %d flows, want %d or more", when, got, len(flows)-1)
			}
		}
		check("before")
		entries("before")
		for _, size := range []string{"4096", "262144"} {
			killAgent(t, s, true)
			cmd := s.Command(context.Background(), "agent", "--metrics-addr", "off", "--flows", size, "--new-flows", "2048", "--endpoints", "512")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := func() error {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				return cmd.Wait()
			}
			lab.Eventually(t, time.Minute, func() error {
				return lab.Running(s.Ebpfnet(t, "-o", "json", "status"))
			})
			entries("with " + size)
			check("with " + size)
			eq(t, "new, in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
			eq(t, "new, out", n.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
			for key, programs := range hooks(t, s) {
				if programs != 1 {
					t.Errorf("with %s: %d programs on %s", size, programs, key)
				}
			}
			lab.Eventually(t, time.Minute, func() error { return resized(s.Name, size) })
			if err := end(); err != nil {
				t.Errorf("the agent with %s: %v", size, err)
			}
			check("without an agent")
			s.Attach(t, docker0()...)
			check("back")
			if err := resized(s.Name, size); err != nil {
				t.Errorf("an agent that nobody told of sizes: %v", err)
			}
		}
	})
}

// resized checks that the pinned flow table has room for that many flows, of two entries each, and that it is the only one.
func resized(instance, flows string) error {
	out, err := exec.Command("sh", "-c", fmt.Sprintf("ls -d /sys/fs/bpf/ebpfnet/%s/v*", instance)).CombinedOutput()
	if err != nil || len(words(string(out))) != 1 {
		return fmt.Errorf("the tables of before are still there: %s: %v", out, err)
	}
	var want uint32
	if _, err := fmt.Sscan(flows, &want); err != nil {
		return err
	}
	return pinnedEntries(words(string(out))[0]+"/maps/flows4", 2*want)
}

// pinnedEntries checks the size of a pinned map.
func pinnedEntries(path string, want uint32) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	if got := m.MaxEntries(); got != want {
		return fmt.Errorf("%s has %d entries, not %d", path, got, want)
	}
	return nil
}
