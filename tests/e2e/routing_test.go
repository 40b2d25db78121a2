package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// I-2, E-12: the routes are those of the kernel's policy: rules by source, by where a packet comes in, by protocol and port, tables of their own,
// sources that a route names, and several next hops. What leaves by an uplink has that uplink's address.
func TestPolicyRouting(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		s.NS.IP(t, "route add default via "+lab.RouterIP1+" dev up1 table 150")
		t.Cleanup(func() { s.NS.IP(t, "route flush table 150") })
		for _, r := range []struct{ name, rule, tcp, udp string }{
			{"no rule", "", lab.HostIP, lab.HostIP},
			{"by source", "from " + c.IP.String(), lab.HostIP1, lab.HostIP1},
			{"by another's source", "from 172.17.255.1", lab.HostIP, lab.HostIP},
			{"by the device that it comes in by", "iif " + lab.Bridge, lab.HostIP1, lab.HostIP1},
			{"by destination", "to " + lab.RemoteIP2, lab.HostIP1, lab.HostIP1},
			{"by protocol", "ipproto udp", lab.HostIP, lab.HostIP1},
			{"by protocol and port", "ipproto tcp dport 7000", lab.HostIP1, lab.HostIP},
		} {
			t.Run(r.name, func(t *testing.T) {
				if r.rule != "" {
					rule := "rule %s pref 90 " + r.rule + " lookup 150"
					s.NS.IP(t, fmt.Sprintf(rule, "add"))
					defer s.NS.IP(t, fmt.Sprintf(rule, "del"))
				}
				for network, want := range map[string]string{"tcp": r.tcp, "udp": r.udp} {
					s.carried(t, "out", 2, func() {
						a := c.NS.Ask(t, network, lab.At(lab.RemoteIP2, 7000))
						eq(t, network+": address outside", a.Seen().Addr().String(), want)
					})
				}
			})
		}
		t.Run("several next hops", func(t *testing.T) {
			const setting = "net/ipv4/fib_multipath_hash_policy"
			old := s.NS.Sysctl(t, setting)
			s.NS.SetSysctl(t, setting, "1") // ports count
			s.NS.IP(t, "route add "+lab.RemoteIP2+" nexthop via "+lab.RouterIP+" dev up0 nexthop via "+lab.RouterIP1+" dev up1")
			t.Cleanup(func() {
				s.NS.IP(t, "route del "+lab.RemoteIP2)
				s.NS.SetSysctl(t, setting, old)
			})
			both(t, func(t *testing.T, network string) {
				flows, seen := []*lab.Client{}, map[string]int{}
				for range 24 {
					flow := c.NS.Dial(t, network, lab.At(lab.RemoteIP2, 7000))
					seen[flow.Ask(t).Seen().Addr().String()]++
					flows = append(flows, flow)
				}
				if len(seen) != 2 || seen[lab.HostIP] == 0 || seen[lab.HostIP1] == 0 {
					t.Errorf("24 flows left as %v, want some by each uplink, with its address", seen)
				}
				for _, flow := range flows {
					flow.Ask(t)
				}
			})
		})
	})
}

// I-3: with strict reverse path filtering everywhere, nothing of ours is dropped as coming from the wrong side: neither what we translate
// before the kernel routes it, nor what it gets after us.
func TestStrictReversePath(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		s.NS.Serve(t, "host", ":7001")
		s.Attach(t, docker0()...)
		for _, dev := range []string{"all", "default", "up0", "up1", lab.Bridge} {
			s.NS.SetSysctl(t, "net/ipv4/conf/"+dev+"/rp_filter", "1")
		}
		web, c := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "c")
		both(t, func(t *testing.T, network string) {
			for _, to := range []string{lab.RemoteIP, lab.RemoteBy1} {
				eq(t, "out", c.NS.Ask(t, network, lab.At(to, 7000)).Name, "far")
			}
			eq(t, "in", s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
			eq(t, "in by the second uplink", s.Remote.Ask(t, network, lab.At(lab.HostIP1, 8080)).Name, "web")
			eq(t, "in by the second uplink, as a route has it", s.Remote.Ask(t, network, lab.At(lab.HostIP1, 8080), lab.From(lab.RemoteBy1+":0")).Name, "web")
			for _, ip := range []string{lab.GatewayIP, lab.HostIP, lab.HostIP1} {
				eq(t, "a neighbour's published port", c.NS.Ask(t, network, lab.At(ip, 8080)).Name, "web")
				eq(t, "its own published port", web.NS.Ask(t, network, lab.At(ip, 8080)).Name, "web")
				eq(t, "the host", c.NS.Ask(t, network, lab.At(ip, 7001)).Name, "host")
				eq(t, "from the host", s.NS.Ask(t, network, lab.At(ip, 8080)).Name, "web")
			}
			eq(t, "neighbour", c.NS.Ask(t, network, web.At(80)).Name, "web")
			eq(t, "from the host to the container", s.NS.Ask(t, network, web.At(80)).Name, "web")
		})
		c.NS.Run(t, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", lab.RemoteIP)
		// Too large for the uplink: what the kernel cuts up is what a container sent.
		s.NS.IP(t, "link set up0 mtu 1400")
		s.Router.IP(t, "link set r0 mtu 1400")
		c.NS.Run(t, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", "-M", "dont", "-s", "1460", lab.RemoteIP)
	})
}

// I-4: a route that forbids is answered as the kernel answers it, to the first packet and to those of a flow that was there before it.
func TestForbiddenRoutes(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		for _, r := range []struct {
			kind string
			code int // of destination unreachable; -1: silence
		}{{"unreachable", layers.ICMPv4CodeHost}, {"prohibit", layers.ICMPv4CodeCommAdminProhibited}, {"blackhole", -1}} {
			t.Run(r.kind, func(t *testing.T) {
				old := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP2, 7000), lab.Within(lab.Doubt))
				old.Ask(t)
				old.Ask(t)
				wire := s.Router.Capture(t, "r0")
				s.NS.IP(t, "route add "+r.kind+" "+lab.RemoteIP2)
				defer s.NS.IP(t, "route del "+r.kind+" "+lab.RemoteIP2)
				inside := c.NS.Capture(t, "eth0")
				told := func(p lab.Packet) bool {
					return p.ICMP != nil && p.ICMP.TypeCode.Type() == layers.ICMPv4TypeDestinationUnreachable
				}
				fresh := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP2, 7000), lab.Within(lab.Doubt))
				if _, err := fresh.TryAsk(); err == nil {
					t.Error("a new flow is answered")
				}
				// Which was looked up within the last second, and is again in the next.
				lab.Eventually(t, lab.Patience, func() error {
					if _, err := old.TryAsk(); err == nil {
						return errors.New("the flow from before is still answered")
					}
					return nil
				})
				if r.code < 0 {
					inside.None(t, "an answer", told)
				} else {
					p := inside.Find(t, "destination unreachable", told)
					eq(t, "code", int(p.ICMP.TypeCode.Code()), r.code)
					eq(t, "who says so", p.Source().Addr().String(), lab.GatewayIP)
					eq(t, "to whom", p.Destination().Addr(), c.IP)
				}
				sound(t, inside)
				wire.None(t, "a container's own address", within(lab.BridgeNet))
			})
			// The flow is there again with its route.
			eq(t, "after "+r.kind, c.NS.Ask(t, "udp", lab.At(lab.RemoteIP2, 7000)).Name, "far")
		}
	})
}

// I-5: with forwarding off nothing goes between containers and the outside, in either direction, as without ebpfnet, and nothing leaves with
// a container's own address; the agent shows it as a problem. Containers, and the host, go on to talk with each other, which is not forwarding.
// Connections that were there go on once it is on again.
func TestForwardingOff(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Remote.Serve(t, "far", ":7000")
		s.Attach(t, docker0()...)
		web, n := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), s.Run(t, "n")
		out, in := web.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)), s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080))
		out.Ask(t)
		in.Ask(t)
		wire := s.Router.Capture(t, "r0")
		s.NS.SetSysctl(t, "net/ipv4/ip_forward", "0")
		both(t, func(t *testing.T, network string) {
			web.NS.Unanswered(t, network, lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
			s.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8080), lab.Within(lab.Doubt))
			eq(t, "from the host", s.NS.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
			eq(t, "from a neighbour", n.NS.Ask(t, network, web.At(80)).Name, "web")
			eq(t, "from a neighbour, published", n.NS.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
		})
		lab.Eventually(t, lab.Patience, func() error {
			if out := s.Ebpfnet(t, "status"); !strings.Contains(out, "ip_forward") {
				return fmt.Errorf("status does not say so:\n%s", out)
			}
			return nil
		})
		s.NS.SetSysctl(t, "net/ipv4/ip_forward", "1")
		both(t, func(t *testing.T, network string) {
			eq(t, "out, on again", web.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
			eq(t, "in, on again", s.Remote.Ask(t, network, lab.At(lab.HostIP, 8080)).Name, "web")
		})
		out.Ask(t)
		in.Ask(t)
		wire.None(t, "a container's own address", within(lab.BridgeNet))
	})
}

// I-10: answers that come in by another uplink than their questions left by belong to the same flow; so do questions that change their uplink.
func TestAsymmetricPath(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c", "-p", "8080:80", "-p", "8080:80/udp")
		s.Remote.Serve(t, "far", ":7000")
		one, two := s.Router.Capture(t, "r0"), s.Router.Capture(t, "r1")
		s.Router.IP(t, "route add "+lab.HostIP1+" via "+lab.HostIP+" dev r0")
		t.Cleanup(func() { _, _ = s.Router.TryRun("ip", "route", "del", lab.HostIP1, "via", lab.HostIP) })
		both(t, func(t *testing.T, network string) {
			flow := c.NS.Dial(t, network, lab.At(lab.RemoteBy1, 7000))
			for range 3 {
				eq(t, "as seen outside", flow.Ask(t).Seen().Addr().String(), lab.HostIP1)
			}
			in := s.Remote.Dial(t, network, lab.At(lab.HostIP1, 8080), lab.From(lab.RemoteBy1+":0"))
			for range 3 {
				eq(t, "who answers", in.Ask(t).Name, "c")
			}
			for _, p := range two.All(func(p lab.Packet) bool { return p.Sent && (p.TCP != nil || p.UDP != nil) }) {
				t.Errorf("the router did not send it by the other uplink: %v", p)
			}
			// And back, in the middle of both.
			s.Router.IP(t, "route del "+lab.HostIP1+" via "+lab.HostIP+" dev r0")
			flow.Ask(t)
			in.Ask(t)
			s.Router.IP(t, "route add "+lab.HostIP1+" via "+lab.HostIP+" dev r0")
			flow.Ask(t)
			in.Ask(t)
			two = s.Router.Capture(t, "r1")
		})
		sound(t, one)
		one.None(t, "a container's own address", within(lab.BridgeNet))
	})
}
