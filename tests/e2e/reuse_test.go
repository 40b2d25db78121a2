package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// E-16: a container that stops takes its flows with it, and the next one with its address gets nothing of theirs.
func TestFlowsEndWithTheirContainer(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		network, _ := s.attachNetwork(t, "net", "--subnet", "10.61.0.0/24")
		old := s.Run(t, "old", "--network", network, "--ip", "10.61.0.10")
		s.Remote.Serve(t, "far", ":7000")
		udp := old.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(":5004"))
		tcp := old.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000), lab.From(":5004"))
		tcp.Ask(t)
		eq(t, "as seen outside", udp.Client, lab.At(lab.HostIP, 5004))
		held := func() error {
			for _, f := range s.Flows(t) {
				if f.Original.Source == "10.61.0.10" || f.Original.Destination == "10.61.0.10" || f.Translated.Destination == "10.61.0.10" {
					return fmt.Errorf("a flow is left: %+v", f)
				}
			}
			return nil
		}
		if held() == nil {
			t.Error("the flows are not listed while the container runs")
		}
		old.Remove(t)
		lab.Eventually(t, lab.Patience, held)

		heir := s.Run(t, "heir", "--network", network, "--ip", "10.61.0.10")
		inside := heir.NS.Capture(t, "eth0")
		late := lab.Way{
			SrcMAC: s.Remote.Device(t, "far").HardwareAddr, DstMAC: s.Router.Device(t, "rr").HardwareAddr,
			Src: lab.AddrPort(lab.RemoteIP, 7000), Dst: lab.AddrPort(lab.HostIP, 5004),
		}
		s.Remote.Inject(t, "far", late.UDP(t, []byte("a late answer")))
		wire := s.NS.Capture(t, "up0")
		s.Remote.Inject(t, "far", late.UDP(t, []byte("a later answer")))
		wire.Find(t, "late answer", carrying("a later answer"))
		inside.None(t, "the answer to another container", carrying("answer"))
		// The heir's own flow from the same port is its own.
		a := heir.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(":5004"))
		eq(t, "heir as seen outside", a.Client, lab.At(lab.HostIP, 5004))
	})
}

// F-12: a UDP client that never changes its port and never stops sending reaches a published container again, at once, when it comes back
// with another address, and its old address's new owner gets nothing.
func TestUDPFollowsItsContainer(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		network, _ := s.attachNetwork(t, "net", "--subnet", "10.62.0.0/24")
		web := s.Run(t, "web", "--network", network, "--ip", "10.62.0.10", "-p", "5353:80/udp")
		client := s.Remote.Dial(t, "udp", lab.At(lab.HostIP, 5353), lab.From(":4004"), lab.Within(50*time.Millisecond))
		if a := client.Ask(t); a.Local != "10.62.0.10:80" {
			t.Fatalf("before: %+v", a)
		}
		// The client goes on all the while, without a pause that a timeout could hide in.
		var local atomic.Value
		local.Store("")
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a, err := client.TryAsk(); err == nil {
					local.Store(a.Local)
				}
				pace(10 * time.Millisecond)
			}
		}()
		defer func() { close(stop); <-done }()

		web.Stop(t)
		s.Docker(t, "network", "disconnect", network, web.ID)
		s.Docker(t, "network", "connect", "--ip", "10.62.0.20", network, web.ID)
		heir := s.Run(t, "heir", "--network", network, "--ip", "10.62.0.10")
		inside := heir.NS.Capture(t, "eth0")
		web.Start(t)
		took := lab.Eventually(t, lab.Patience, func() error {
			if got := local.Load(); got != "10.62.0.20:80" {
				return fmt.Errorf("the client was last answered at %q", got)
			}
			return nil
		})
		t.Logf("answered %v after the start returned", took.Round(time.Millisecond))
		if took > time.Second {
			t.Errorf("answered after %v", took)
		}
		inside.None(t, "the client's datagrams", func(p lab.Packet) bool { return p.UDP != nil && p.Source().Port() == 4004 })
	})
}

// F-12, its second half: a port that is published under a flow that the host's stack was answering takes that flow over.
func TestUDPFollowsANewPort(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web")
		conn := s.Remote.ListenUDP(t, ":4005")
		ask := func(within time.Duration) error {
			_, err := lab.AskFrom(conn, lab.At(lab.HostIP, 5354), within)
			return err
		}
		for range 3 {
			if err := ask(50 * time.Millisecond); err == nil {
				t.Fatal("answered before the port is published")
			}
		}
		s.Publish(t, "5354:80/udp", web.Name)
		if err := ask(lab.Patience); err != nil {
			t.Errorf("once it is published: %v", err)
		}
	})
}

// pace waits for that long. It paces traffic; it does not wait for anything to become true.
func pace(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
