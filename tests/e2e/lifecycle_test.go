package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// killAgent ends the agent, with a chance to say good-bye or without, and waits until it is gone.
func killAgent(t testing.TB, s site, hard bool) {
	t.Helper()
	pid := s.Status(t).Agent.PID
	signal := syscall.SIGTERM
	if hard {
		signal = syscall.SIGKILL
	}
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("kill agent %d: %v", pid, err)
	}
	// A process that is being killed keeps its sockets for a moment longer than its name.
	socket := lab.SocketOf(s.Instance.Name)
	lab.Eventually(t, 10*time.Second, func() error {
		if lab.Alive(pid) {
			return fmt.Errorf("agent %d is alive", pid)
		}
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return fmt.Errorf("agent %d still listens", pid)
		}
		return nil
	})
}

// The datapath outlives its agent: flows under way go on, new ones begin in every direction, and an agent that comes back takes over what
// it finds without cutting anything (F-10).
func TestAgentDies(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		web, n := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "n")
		s.Publish(t, "8081:80", web.Name)
		s.Remote.Serve(t, "far", ":7000")
		flows := map[string]*lab.Client{
			"in":      s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
			"in udp":  s.Remote.Dial(t, "udp", lab.At(lab.HostIP, 8080)),
			"out":     n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
			"out udp": n.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000)),
			"local":   n.NS.Dial(t, "tcp", web.At(80)),
			"hairpin": n.NS.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
			"host":    s.NS.Dial(t, "tcp", lab.At("127.0.0.1", 8080)),
		}
		seen := map[string]string{}
		check := func(when string) {
			t.Helper()
			for name, flow := range flows {
				a, err := flow.TryAsk()
				if err != nil {
					t.Errorf("%s: %s: %v", when, name, err)
					continue
				}
				if seen[name] != "" && seen[name] != a.Client {
					t.Errorf("%s: %s is seen as %s, was %s", when, name, a.Client, seen[name])
				}
				seen[name] = a.Client
			}
			both(t, func(t *testing.T, network string) {
				eq(t, when+": new, in", s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
				eq(t, when+": new, out", n.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
				eq(t, when+": new, local", n.NS.Ask(t, network, web.At(80)).Name, "web")
				eq(t, when+": new, hairpin", n.NS.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
				eq(t, when+": new, host", s.NS.Ask(t, network, lab.At("127.0.0.1", 8080)).Name, "web")
			})
			eq(t, when+": the user's port", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Name, "web")
		}
		check("before")
		for _, hard := range []bool{true, false} {
			killAgent(t, s, hard)
			check("without an agent")
			o := s.Try(t, "endpoint", "list")
			eq(t, "exit code without an agent", o.Code, 1)
			oneLine(t, o, "no agent")
			s.Attach(t, docker0()...)
			check("with the next agent")
			eq(t, "ports", len(s.Ports(t)), 3)
		}
		// What has changed meanwhile is picked up.
		killAgent(t, s, true)
		web.Restart(t)
		late := s.Host.Run(t, "late", "-p", "8082:80")
		s.Attach(t, docker0()...)
		s.await(t, web)
		s.await(t, late)
		eq(t, "restarted meanwhile", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
		eq(t, "started meanwhile", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8082)).Name, "late")
	})
}

// An agent that is told to end, and told again all the while that it goes down, has ended well.
func TestToldToEndAgain(t *testing.T) {
	h := suite.SharedHost(t, lab.Native)
	in := h.Instance(t)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*lab.Patience)
		cmd := in.Command(ctx, "agent", "--metrics-addr", "off")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, lab.Patience, func() error {
			return lab.Running(in.Run(t, "-o", "json", "status"))
		})
		ended := make(chan error)
		go func() { ended <- cmd.Wait() }()
		for told := true; told; {
			select {
			case err := <-ended:
				if told = false; err != nil {
					t.Fatalf("the agent has ended with %v", err)
				}
			default:
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Error(err)
				}
			}
		}
		cancel()
	}
}

// K-14: a second agent of the same instance refuses, and leaves the first alone; an agent of another instance does not mind.
func TestSecondAgent(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		s.Run(t, "web", "-p", "8080:80")
		pid := s.Status(t).Agent.PID
		o := s.Try(t, "agent")
		eq(t, "exit code", o.Code, 1)
		oneLine(t, o, "agent", fmt.Sprint(pid))
		eq(t, "the agent", s.Status(t).Agent.PID, pid)
		eq(t, "the port", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
	})
}

// A connection that began before attaching goes on over Docker's rules, through attaching and detaching (F-11 in part).
func TestAttachUnderTraffic(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t, lab.Default)
	s := site{h, h.Instance(t)}
	web, n := s.Host.Run(t, "web", "-p", "8080:80"), s.Host.Run(t, "n")
	s.Remote.Serve(t, "far", ":7000")
	flows := map[string]*lab.Client{
		"in":    s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
		"out":   n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
		"local": n.NS.Dial(t, "tcp", web.At(80)),
		"host":  s.NS.Dial(t, "tcp", web.At(80)),
	}
	check := func(when string) {
		t.Helper()
		for name, flow := range flows {
			for range 3 {
				if _, err := flow.TryAsk(); err != nil {
					t.Errorf("%s: %s: %v", when, name, err)
					break
				}
			}
		}
	}
	check("before")
	s.Attach(t, docker0()...)
	s.await(t, web)
	s.await(t, n)
	check("attached")
	s.Ebpfnet(t, "detach", "--all", "--yes")
	check("detached")
}
