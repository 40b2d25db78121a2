package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// find returns the endpoints that match.
func (s site) find(t testing.TB, match func(api.Endpoint) bool) []api.Endpoint {
	t.Helper()
	return slices.DeleteFunc(s.Endpoints(t), func(e api.Endpoint) bool { return !match(e) })
}

// soon fails the test where a change is not picked up within a second.
func soon(t testing.TB, what string, fn func() error) {
	t.Helper()
	took := lab.Eventually(t, lab.Patience, fn)
	t.Logf("%s: picked up within %v", what, took.Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("%s: picked up after %v", what, took)
	}
}

// Containers that come, go, restart, change their name and their networks are picked up within a second.
func TestContainersComeAndGo(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		named := func(name string, n int) func() error {
			return func() error {
				if got := len(s.find(t, func(e api.Endpoint) bool { return e.Container == name })); got != n {
					return fmt.Errorf("%d endpoints of %s, want %d", got, name, n)
				}
				return nil
			}
		}
		published := func(want bool) func() error {
			return func() error {
				for _, p := range s.Ports(t) {
					if p.HostPort == 8095 && p.Active {
						if want {
							return nil
						}
						return fmt.Errorf("port 8095 is still there: %+v", p)
					}
				}
				if want {
					return fmt.Errorf("port 8095 is not there")
				}
				return nil
			}
		}
		c := s.Host.Run(t, "c", "-p", "8095:80")
		soon(t, "start", named(c.Name, 1))
		soon(t, "its port", published(true))
		e := s.find(t, func(e api.Endpoint) bool { return e.Container == c.Name })[0]
		eq(t, "id", e.ID, c.ID)
		eq(t, "bridge", e.Bridge, lab.Bridge)
		eq(t, "MAC", e.MAC, c.MAC)
		eq(t, "address", strings.Split(e.Addresses[0], "/")[0], c.IP.String())
		eq(t, "veth's ifindex", e.VethIfindex, s.NS.Device(t, e.Veth).Index)
		eq(t, "peer's ifindex", e.PeerIfindex, c.NS.Device(t, "eth0").Index)

		s.Docker(t, "rename", c.ID, c.Name+"-new")
		soon(t, "rename", named(c.Name+"-new", 1))
		eq(t, "endpoints under the old name", len(s.find(t, func(e api.Endpoint) bool { return e.Container == c.Name })), 0)
		c.Name += "-new"

		veth := e.Veth
		c.Restart(t)
		soon(t, "restart", func() error {
			all := s.find(t, func(e api.Endpoint) bool { return e.Container == c.Name })
			if len(all) != 1 || all[0].Veth == veth {
				return fmt.Errorf("endpoints after the restart: %+v", all)
			}
			return nil
		})
		eq(t, "who answers after the restart", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8095)).Name, "c")

		network, bridge := s.attachNetwork(t, "net")
		s.Docker(t, "network", "connect", network, c.ID)
		soon(t, "connect", named(c.Name, 2))
		other := s.Run(t, "other", "--network", network)
		c.Refresh(t)
		eq(t, "by its new address", other.NS.Ask(t, "tcp", lab.At(c.IPs[network].String(), 80)).Name, "c")
		s.Docker(t, "network", "disconnect", network, c.ID)
		soon(t, "disconnect", named(c.Name, 1))
		eq(t, "endpoints left on the network", len(s.find(t, func(e api.Endpoint) bool { return e.Bridge == bridge })), 1)

		c.Stop(t)
		soon(t, "stop", named(c.Name, 0))
		soon(t, "its port", published(false))
		c.Start(t)
		soon(t, "start again", named(c.Name, 1))
		soon(t, "its port", published(true))
		c.Remove(t)
		soon(t, "removal", named(c.Name, 0))
		soon(t, "its port", published(false))
	})
}

// Docker's network modes: container:X shares X's endpoint; host and none have none, and publishing to those says why it cannot be.
func TestNetworkModes(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		owner := s.Run(t, "owner")
		guest := s.Host.Run(t, "guest", "--network", "container:"+owner.Name, "--", "/bin/probe", "serve", "-name", "guest", "-tcp", "90", "-udp", "90",
			"-http", "91")
		hostly := s.Host.Run(t, "hostly", "--network", "host", "--", "/bin/sleep", "1000")
		none := s.Host.Run(t, "none", "--network", "none", "--", "/bin/sleep", "1000")
		soon(t, "the guest", func() error {
			all := s.find(t, func(e api.Endpoint) bool { return e.Container == owner.Name })
			if len(all) != 1 || !slices.Contains(all[0].Shared, guest.Name) {
				return fmt.Errorf("endpoints of the owner: %+v", all)
			}
			return nil
		})
		for _, c := range []*lab.Container{hostly, none, guest} {
			eq(t, "endpoints named "+c.Name, len(s.find(t, func(e api.Endpoint) bool { return e.Container == c.Name })), 0)
		}
		s.Publish(t, "8096:90", guest.Name)
		a := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8096))
		eq(t, "who answers at the guest's port", a.Name, "guest")
		for _, c := range []*lab.Container{hostly, none} {
			o := s.Try(t, "publish", "8097:80", c.Name)
			eq(t, "exit code", o.Code, 1)
			oneLine(t, o, "network")
		}
		s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8097))
	})
}

// A network namespace that someone plugs into the bridge is an endpoint too, with all that a container has.
func TestPlainNamespace(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		m := s.Machine(t, "plain")
		plug(t, s, m, "plain0", 0, "172.17.220.1")
		m.Serve(t, "plain", ":80")
		soon(t, "the namespace", func() error {
			all := s.find(t, func(e api.Endpoint) bool { return e.Veth == "plain0" })
			if len(all) != 1 || len(all[0].Addresses) == 0 {
				return fmt.Errorf("endpoints behind plain0: %+v", all)
			}
			return nil
		})
		s.Publish(t, "8098:80", "172.17.220.1")
		s.Publish(t, "8098:80/udp", "172.17.220.1")
		both(t, func(t *testing.T, network string) {
			s.carried(t, "out", 2, func() {
				a := m.Ask(t, network, lab.At(lab.RemoteIP, 7000), lab.From(":5010"))
				eq(t, "as seen outside", a.Client, lab.At(lab.HostIP, 5010))
			})
			s.carried(t, "in", 2, func() {
				a := s.Remote.Ask(t, network, lab.At(lab.HostIP, 8098))
				eq(t, "who answers from outside", a.Name, "plain")
				eq(t, "whom it sees", a.Client, a.Self.String())
			})
			s.carried(t, "local", 2, func() {
				eq(t, "who answers a container", c.NS.Ask(t, network, lab.At("172.17.220.1", 80)).Name, "plain")
			})
			eq(t, "who answers the host", s.NS.Ask(t, network, lab.At("127.0.0.1", 8098)).Name, "plain")
		})
		s.NS.IP(t, "link del plain0")
		soon(t, "its end", func() error {
			if all := s.find(t, func(e api.Endpoint) bool { return e.Veth == "plain0" }); len(all) > 0 {
				return fmt.Errorf("endpoints behind plain0: %+v", all)
			}
			return nil
		})
	})
}

// plug connects a namespace to docker0 by a veth of that name and, where it is not 0, ifindex.
func plug(t testing.TB, s site, m *lab.Netns, veth string, ifindex int, ip string) {
	t.Helper()
	add := "link add name " + veth
	if ifindex != 0 {
		add += fmt.Sprintf(" index %d", ifindex)
	}
	s.NS.IP(t, add+" type veth peer name eth0 netns "+m.Name)
	m.IP(t, "addr add "+netip.PrefixFrom(netip.MustParseAddr(ip), 16).String()+" dev eth0")
	m.IP(t, "link set eth0 up")
	m.IP(t, "route add default via "+lab.GatewayIP)
	s.NS.IP(t, "link set "+veth+" master docker0 up")
}

// attach --all takes every Docker bridge network, those that come later too, and lets go of those that go.
func TestAttachAll(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		early := s.Network(t, "early", "--subnet", "10.65.1.0/24")
		before := s.Host.Run(t, "before", "--network", early, "-p", "8080:80")
		s.Attach(t, "--all")
		attached := func() []string {
			var names []string
			for _, b := range s.Status(t).Bridges {
				if b.Attached {
					names = append(names, b.Name)
				}
			}
			slices.Sort(names)
			return names
		}
		want := []string{lab.Bridge, s.NetworkBridge(t, early)}
		slices.Sort(want)
		if got := attached(); !slices.Equal(got, want) {
			t.Errorf("attached are %v, want %v", got, want)
		}
		s.await(t, before)
		eq(t, "the early network's port", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "before")
		// By default the uplink is the device with the default route.
		if u := s.Status(t).Uplinks; len(u) != 1 || u[0].Name != "up0" || !strings.HasPrefix(u[0].Address, lab.HostIP) {
			t.Errorf("uplinks: %+v", u)
		}

		late := s.Network(t, "late", "--subnet", "10.65.2.0/24")
		bridge := s.NetworkBridge(t, late)
		soon(t, "a later network", func() error {
			if !slices.Contains(attached(), bridge) {
				return fmt.Errorf("%s is not attached", bridge)
			}
			return nil
		})
		after := s.Run(t, "after", "--network", late, "-p", "8081:80")
		s.Remote.Serve(t, "far", ":7000")
		eq(t, "the later network's port", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Name, "after")
		s.carried(t, "out", 2, func() {
			eq(t, "out of it", after.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		})
		eq(t, "from one to the other", after.NS.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "before")
		after.Remove(t)
		s.Docker(t, "network", "rm", late)
		soon(t, "the network's end", func() error {
			if slices.Contains(attached(), bridge) {
				return fmt.Errorf("%s is still attached", bridge)
			}
			return nil
		})
		if p := s.Status(t).Problems; len(p) > 0 {
			t.Errorf("problems: %q", p)
		}
	})
}
