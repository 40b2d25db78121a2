package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// A third network between the host and the router, for devices that a test makes. RemoteBy1 is reached by it.
const (
	spareHost   = "198.18.0.1"
	spareRouter = "198.18.0.254"
)

// spare connects a new device of the host with the router by the spare network, as ip(8) commands for the host make it out of the veth "raw".
func spare(t *testing.T, s site, dev string, host ...string) {
	t.Helper()
	s.NS.IP(t, "link add raw type veth peer name r9 netns "+s.Router.Name)
	t.Cleanup(func() { _, _ = s.Router.TryRun("ip", "link", "del", "r9") })
	ip(t, s.Router, "addr add "+spareRouter+"/24 dev r9", "link set r9 up")
	ip(t, s.NS, host...)
	ip(t, s.NS, "addr add "+spareHost+"/24 dev "+dev, "link set "+dev+" up")
}

// leads checks that containers leave by a device with its address, that a published port is reached there, and that programs are on it.
func (s site) leads(t *testing.T, when, dev, addr string, c *lab.Container) {
	t.Helper()
	took := lab.Eventually(t, lab.Patience, func() error {
		got := hooks(t, s)
		if got[dev+" ingress"] != 1 || got[dev+" egress"] != 1 {
			return fmt.Errorf("%s: %d and %d programs on %s", when, got[dev+" ingress"], got[dev+" egress"], dev)
		}
		// A container's flow is translated to the address that the agent knows of.
		if i := slices.IndexFunc(s.Status(t).Uplinks, func(u api.UplinkStatus) bool { return u.Name == dev && u.Address == addr }); i < 0 {
			return fmt.Errorf("%s: status shows no uplink %s with %s", when, dev, addr)
		}
		return nil
	})
	t.Logf("%s: attached after %v", when, took)
	both(t, func(t *testing.T, network string) {
		s.carried(t, "out", 2, func() {
			eq(t, when+": as seen outside", c.NS.Ask(t, network, lab.At(lab.RemoteBy1, 7000)).Seen().Addr().String(), addr)
		})
	})
	inwards := func() {
		a := s.Remote.Ask(t, "tcp", lab.At(addr, 8080))
		eq(t, when+": who answers", a.Local, c.At(80))
		eq(t, when+": the client", a.Seen().Addr().String(), lab.RemoteIP)
	}
	if when == "bridge" && s.World == lab.Default {
		// Netfilter sees a bridge's frames before the bridge's device does, and Docker's rules translate them there.
		inwards()
		return
	}
	s.carried(t, "in", 2, inwards)
}

// I-6, I-7: uplinks of each kind that this kernel makes, that come late, flap, change their address, have dots in their names or are given
// another one. What has no link-layer header is refused in one line.
func TestUplinks(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		route := func() { s.NS.IP(t, "route replace "+lab.RemoteBy1+" via "+spareRouter) }
		s.NS.IP(t, "route del "+lab.RemoteBy1)
		s.Attach(t, "--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "wan.100", "--wait")
		web := s.Run(t, "web", "-p", "8080:80")
		t.Run("late", func(t *testing.T) {
			spare(t, s, "wan.100", "link set raw name wan.100")
			route()
			s.leads(t, "late", "wan.100", spareHost, web)
			for i := range 3 {
				ip(t, s.NS, "link set wan.100 down", "link set wan.100 up")
				route()
				s.leads(t, fmt.Sprintf("flapped %d times", i+1), "wan.100", spareHost, web)
			}
			flow := s.Remote.Dial(t, "tcp", lab.At(spareHost, 8080))
			flow.Ask(t)
			ip(t, s.NS, "addr add 198.18.0.7/24 dev wan.100", "addr del "+spareHost+"/24 dev wan.100", "addr replace 198.18.0.7/24 dev wan.100")
			route()
			s.leads(t, "another address", "wan.100", "198.18.0.7", web)
			s.Remote.Unanswered(t, "tcp", lab.At(spareHost, 8080))
			s.NS.IP(t, "link del wan.100")
		})
		t.Run("gone", func(t *testing.T) {
			lab.Eventually(t, lab.Patience, func() error {
				if i := slices.IndexFunc(s.Status(t).Uplinks, func(u api.UplinkStatus) bool { return u.Name == "wan.100" }); i >= 0 {
					return fmt.Errorf("status still shows it")
				}
				return nil
			})
		})
		t.Run("a new one of the same name", func(t *testing.T) {
			spare(t, s, "wan.100", "link add link raw name wan.100 type macvlan mode bridge", "link set raw up")
			route()
			s.leads(t, "macvlan", "wan.100", spareHost, web)
			s.NS.IP(t, "link del raw")
		})
		t.Run("bridge", func(t *testing.T) {
			spare(t, s, "wan.100", "link add wan.100 type bridge", "link set raw master wan.100", "link set raw up")
			t.Cleanup(func() { ip(t, s.NS, "link del wan.100", "link del raw") })
			route()
			s.leads(t, "bridge", "wan.100", spareHost, web)
		})
		t.Run("tun", func(t *testing.T) {
			ip(t, s.NS, "tuntap add dev tun7 mode tun", "addr add 10.7.0.1/24 dev tun7", "link set tun7 up")
			t.Cleanup(func() { s.NS.IP(t, "link del tun7") })
			o := s.Try(t, "attach", "--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "tun7")
			eq(t, "exit code", o.Code, 1)
			oneLine(t, o, "tun7", "no link-layer header")
			eq(t, "the others stay", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
		})
		t.Run("renamed", func(t *testing.T) {
			// Without a name it is the one with the default route, whatever it is called.
			s.Ebpfnet(t, "detach", "--bridge", lab.Bridge, "--yes")
			s.Ebpfnet(t, "detach", "--all", "--yes")
			s.Attach(t, "--bridge", lab.Bridge)
			s.await(t, web)
			ip(t, s.NS, "link set up0 down", "link set up0 name eth0.7", "link set eth0.7 up", "route replace default via "+lab.RouterIP)
			lab.Eventually(t, lab.Patience, func() error {
				if got := hooks(t, s); got["eth0.7 ingress"] != 1 {
					return fmt.Errorf("%d programs on the renamed device", got["eth0.7 ingress"])
				}
				return nil
			})
			eq(t, "in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
			eq(t, "out", web.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		})
	})
}

// I-7: a device that had the default route keeps its programs while it is down and its routes are gone, so that the first packets after it is
// up again find them.
func TestUplinkKeepsItsPlace(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		s.Attach(t, "--bridge", lab.Bridge)
		web := s.Run(t, "web", "-p", "8080:80")
		// With another default route, by a device that was none before, the usual rule would leave the first one out.
		s.NS.IP(t, "route add default via "+lab.RouterIP1+" metric 100")
		lab.Eventually(t, lab.Patience, func() error {
			if n := len(s.Status(t).Uplinks); n != 2 {
				return fmt.Errorf("%d uplinks", n)
			}
			return nil
		})
		wire := s.Router.Capture(t, "r0")
		s.NS.IP(t, "link set up0 down")
		// What the agent sees from now on has no default route by up0.
		late := s.Run(t, "late")
		eq(t, "programs on a device that is down", hooks(t, s)["up0 ingress"], 1)
		ip(t, s.NS, "link set up0 up", "route add "+lab.RemoteIP+" via "+lab.RouterIP)
		both(t, func(t *testing.T, network string) {
			eq(t, "in by it", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
			eq(t, "out by it", late.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		})
		wire.None(t, "a container's own address", within(netip.MustParsePrefix(lab.BridgeNet).String()))
	})
}
