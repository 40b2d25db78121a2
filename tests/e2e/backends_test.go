package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// H-14: when a port is taken from one container and given to another, new connections go to the new one. Old ones keep what they had or are
// reset; they never speak to the other.
func TestPortMoves(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		one, two := s.Run(t, "one"), s.Run(t, "two")
		client := s.Run(t, "client")
		for name, from := range map[string]*lab.Netns{"remote": s.Remote, "host": s.NS, "container": client.NS} {
			t.Run(name, func(t *testing.T) {
				s.Ebpfnet(t, "publish", "8090:80", one.Name)
				s.Ebpfnet(t, "publish", "8090:80/udp", one.Name)
				old := from.Dial(t, "tcp", lab.At(lab.HostIP, 8090), lab.Within(lab.Doubt))
				eq(t, "before", old.Ask(t).Name, "one")
				eq(t, "before", from.Ask(t, "udp", lab.At(lab.HostIP, 8090)).Name, "one")
				s.Ebpfnet(t, "unpublish", "8090")
				s.Ebpfnet(t, "unpublish", "8090/udp")
				from.Unanswered(t, "tcp", lab.At(lab.HostIP, 8090))
				from.Unanswered(t, "udp", lab.At(lab.HostIP, 8090))
				s.Publish(t, "8090:80", two.Name)
				s.Publish(t, "8090:80/udp", two.Name)
				for range 3 {
					eq(t, "new", from.Ask(t, "tcp", lab.At(lab.HostIP, 8090)).Name, "two")
					eq(t, "new", from.Ask(t, "udp", lab.At(lab.HostIP, 8090)).Name, "two")
				}
				a, err := old.TryAsk()
				t.Logf("an old connection: %q %v", a.Name, err)
				if err == nil && a.Name != "one" {
					t.Errorf("an old connection is answered by %s", a.Name)
				}
				if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("an old connection hangs: %v", err)
				}
			})
		}
	})
}

// H-18: the port of a container that has stopped refuses, as Docker's does, and works again when the container does.
func TestPortOfAStoppedContainer(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8080:80")
		s.Publish(t, "8091:80", web.Name)
		client := s.Run(t, "client")
		froms := map[string]*lab.Netns{"remote": s.Remote, "host": s.NS, "container": client.NS}
		ask := func(from *lab.Netns, port int) (string, error) {
			a, err := from.TryAsk("tcp", lab.At(lab.HostIP, port), lab.Within(lab.Doubt))
			return a.Name, err
		}
		for name, from := range froms {
			for _, port := range []int{8080, 8091} {
				if who, err := ask(from, port); err != nil || who != "web" {
					t.Fatalf("%s to %d, before: %q %v", name, port, who, err)
				}
			}
		}
		web.Stop(t)
		for name, from := range froms {
			for _, port := range []int{8080, 8091} {
				lab.Eventually(t, lab.Patience, func() error {
					if who, err := ask(from, port); !errors.Is(err, syscall.ECONNREFUSED) {
						return fmt.Errorf("%s to %d, stopped: %q %v", name, port, who, err)
					}
					return nil
				})
			}
		}
		web.Start(t)
		start := time.Now()
		for name, from := range froms {
			for _, port := range []int{8080, 8091} {
				lab.Eventually(t, lab.Patience, func() error {
					if who, err := ask(from, port); err != nil || who != "web" {
						return fmt.Errorf("%s to %d, started again: %q %v", name, port, who, err)
					}
					return nil
				})
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the ports work %v after the start", took)
		}
	})
}
