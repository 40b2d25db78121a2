package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// K-9: with live-restore dockerd goes and its containers stay. Traffic goes on, and an agent that starts meanwhile knows what the one before it
// knew: names, published ports, and which network is internal.
func TestDockerdAway(t *testing.T) {
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			h := suite.NewHost(t, w, "--live-restore")
			s := site{h, h.Instance(t)}
			defer func() {
				if t.Failed() {
					s.Instance.Report(t)
				}
			}()
			s.Attach(t, docker0()...)
			network, _ := s.attachNetwork(t, "inner", "--internal")
			web, n, inner := s.Run(t, "web", "-p", "8080:80"), s.Run(t, "n"), s.Run(t, "inner", "--network", network)
			s.Remote.Serve(t, "far", ":7000")
			flows := map[string]*lab.Client{
				"in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)), "out": n.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
				"local": n.NS.Dial(t, "tcp", web.At(80)),
			}
			check := func(when string) {
				t.Helper()
				for name, flow := range flows {
					if _, err := flow.TryAsk(); err != nil {
						t.Errorf("%s: %s: %v", when, name, err)
					}
				}
				eq(t, when+": new, in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
				eq(t, when+": new, out", n.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
				eq(t, when+": new, hairpin", n.NS.Ask(t, "udp", lab.At(lab.GatewayIP, 8080), lab.Within(lab.Patience)).Name, "web")
				inner.NS.Unanswered(t, "udp", lab.At(lab.RemoteIP, 7000))
			}
			s.Publish(t, "8080:80/udp", web.Name)
			check("before")
			s.StopDocker(t)
			check("dockerd is away")
			for _, hard := range []bool{true, false} {
				killAgent(t, s, hard)
				check("dockerd and the agent are away")
				s.Attach(t, docker0()...)
				s.await(t, web)
				s.await(t, inner)
				check("a new agent without dockerd")
			}
			s.StartDocker(t)
			check("dockerd is back")
			late := s.Run(t, "late", "-p", "8081:80")
			eq(t, "a new container", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Local, late.At(80))
			check("with a new container")
		})
	}
}

// K-9: dockerd comes back without live-restore, and then with another subnet on docker0: containers that start again are served by what is true
// now, within a second, and nothing of before is left.
func TestDockerdRestarts(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		var all []*lab.Container
		for i := range 3 {
			all = append(all, s.Run(t, fmt.Sprintf("c%d", i), "--restart", "always", "-p", fmt.Sprintf("%d:80", 8080+i)))
		}
		s.Remote.Serve(t, "far", ":7000")
		served := func(when string) {
			t.Helper()
			began := time.Now()
			for i, c := range all {
				lab.Eventually(t, lab.Patience, func() error { return running(t, s, c) })
				c.Refresh(t)
				s.Endpoint(t, c.IP)
				s.await(t, c)
				eq(t, when+": who answers", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080+i)).Local, c.At(80))
				eq(t, when+": as seen outside", c.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
			}
			t.Logf("%s: all served after %v", when, time.Since(began).Round(time.Millisecond))
			s.onlyThese(t, all)
		}
		served("before")
		s.StopDocker(t)
		for i := range all {
			s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8080+i))
		}
		s.onlyThese(t, nil)
		s.StartDocker(t)
		served("dockerd is back")

		s.StopDocker(t)
		s.NS.IP(t, "link del docker0")
		s.StartDocker(t, "--bip", "10.88.0.1/24")
		served("another subnet")
		subnets := s.Status(t).Bridges[0].Subnets
		eq(t, "subnets", fmt.Sprint(subnets), "[10.88.0.0/24]")
		for _, f := range s.Flows(t) {
			for _, a := range []string{f.Original.Source, f.Original.Destination, f.Translated.Source, f.Translated.Destination} {
				if netip.MustParsePrefix(lab.BridgeNet).Contains(netip.MustParseAddr(a)) {
					t.Errorf("a flow of the old subnet is left: %+v", f)
				}
			}
		}
	})
}

// running tells whether a container runs again.
func running(t testing.TB, s site, c *lab.Container) error {
	t.Helper()
	if state := s.Docker(t, "inspect", "--format", "{{.State.Running}}", c.ID); state != "true" {
		return fmt.Errorf("%s does not run", c.Name)
	}
	return nil
}

// onlyThese waits until the endpoints are those of just these containers, on docker0.
func (s site) onlyThese(t testing.TB, all []*lab.Container) {
	t.Helper()
	var want []string
	for _, c := range all {
		want = append(want, c.IP.String())
	}
	slices.Sort(want)
	lab.Eventually(t, lab.Patience, func() error {
		var got []string
		for _, e := range s.Endpoints(t) {
			got = append(got, e.Addresses...)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("endpoints are %v, want %v", got, want)
		}
		return nil
	})
}

// G-12: a container that crashes again and again comes and goes as fast as Docker lets it; nothing of it is left in the end, and its neighbours
// notice nothing.
func TestCrashLoop(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		network, _ := s.attachNetwork(t, "net", "--subnet", "10.64.0.0/24")
		web, n := s.Run(t, "web", "--network", network, "-p", "8090:80"), s.Run(t, "n", "--network", network)
		flows := []*lab.Client{s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8090)), n.NS.Dial(t, "tcp", web.At(80))}
		id := s.Docker(t, "run", "--detach", "--restart", "always", "--network", network, "-p", "8091:80", lab.Image, "/bin/true")
		t.Cleanup(func() { _, _ = s.TryDocker("rm", "--force", id) })
		lab.Eventually(t, 4*lab.Patience, func() error {
			for _, flow := range flows {
				flow.Ask(t)
			}
			eq(t, "in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8090)).Name, "web")
			s.Remote.Unanswered(t, "udp", lab.At(lab.HostIP, 8091), lab.Within(50*time.Millisecond))
			if count := s.Docker(t, "inspect", "--format", "{{.RestartCount}}", id); len(count) == 1 && count < "3" {
				return fmt.Errorf("restarted %s times", count)
			}
			return nil
		})
		s.Docker(t, "rm", "--force", id)
		lab.Eventually(t, lab.Patience, func() error {
			for _, e := range s.Endpoints(t) {
				if e.ID == id {
					return fmt.Errorf("it is still an endpoint: %+v", e)
				}
			}
			if i := slices.IndexFunc(s.Ports(t), func(p api.Port) bool { return p.HostPort == 8091 }); i >= 0 {
				return fmt.Errorf("its port is still there")
			}
			return nil
		})
		for _, flow := range flows {
			flow.Ask(t)
		}
	})
}
