package parity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// publishedChecks are clients outside that dial what is published.
func publishedChecks() (list []check) {
	for _, c := range []struct{ name, ip string }{{"", lab.HostIP}, {" by the second uplink's address", lab.HostIP1}} {
		list = append(list, both("published port"+c.name, func(t *testing.T, s *site, network string) string {
			return s.ask(s.Remote, network, lab.At(c.ip, 8080))
		})...)
	}
	list = append(list, both("published port, from the host's own neighbour", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Router, network, lab.At(lab.HostIP, 8080), lab.From(lab.At(lab.RouterIP, s.port())))
	})...)
	list = append(list, both("published port of another network's container", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8086))
	})...)
	list = append(list, both("published port of a container on two networks", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8088))
	})...)
	list = append(list, both("published port without inter-container communication", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8087))
	})...)
	list = append(list, one("published port, an unconnected socket", func(t *testing.T, s *site) string {
		return s.loose(t, s.Remote, lab.At(lab.HostIP, 8080)) + "; " + s.loose(t, s.Remote, lab.At(lab.HostIP1, 8080))
	})...)
	list = append(list, one("published port, an empty datagram", func(t *testing.T, s *site) string {
		return s.bare(t, s.dial(t, s.Remote, "udp", lab.At(lab.HostIP, 8080)), nil)
	})...)
	list = append(list, both("published port that nobody listens on", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8082))
	})...)
	list = append(list, both("published on one address", func(t *testing.T, s *site, network string) string {
		return fmt.Sprintf("%s; the other: %s", s.ask(s.Remote, network, lab.At(lab.HostIP, 8083)), s.ask(s.Remote, network, lab.At(lab.HostIP1, 8083)))
	})...)
	list = append(list, both("published on 127.0.0.1, from outside", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8084))
	})...)
	list = append(list, both("one number, another container for each protocol", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8300))
	})...)
	list = append(list, both("a range of ports", func(t *testing.T, s *site, network string) string {
		var out string
		for i := range 4 {
			a, err := s.Remote.TryAsk(network, lab.At(lab.HostIP, 20000+i), s.options(nil)...)
			if err != nil {
				return reason(err)
			}
			out += fmt.Sprintf("%d ", a.Dialled().Port())
		}
		return out + "and then: " + s.ask(s.Remote, network, lab.At(lab.HostIP, 20004))
	})...)
	list = append(list, both("not published, from outside", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8079))
	})...)
	return list
}

// insideChecks are containers that dial published ports.
func insideChecks() (list []check) {
	for _, c := range []struct {
		name string
		from func(s *site) *lab.Container
		ip   string
		port int
	}{
		{"its own published port by the host's address", func(s *site) *lab.Container { return s.web }, lab.HostIP, 8080},
		{"its own published port by the gateway", func(s *site) *lab.Container { return s.web }, lab.GatewayIP, 8080},
		{"its own published port by the second uplink's address", func(s *site) *lab.Container { return s.web }, lab.HostIP1, 8080},
		{"a neighbour's published port by the host's address", func(s *site) *lab.Container { return s.a }, lab.HostIP, 8080},
		{"a neighbour's published port by the gateway", func(s *site) *lab.Container { return s.a }, lab.GatewayIP, 8080},
		{"a published port on another network by the host's address", func(s *site) *lab.Container { return s.stranger }, lab.HostIP, 8080},
		{"a published port on another network by its own gateway", func(s *site) *lab.Container { return s.stranger }, otherGate, 8080},
		{"a published port on another network by that one's gateway", func(s *site) *lab.Container { return s.a }, otherGate, 8086},
		{"a neighbour's published port without inter-container communication", func(s *site) *lab.Container { return s.apartB }, lab.HostIP, 8087},
		{"its own published port without inter-container communication", func(s *site) *lab.Container { return s.apartA }, lab.HostIP, 8087},
		{"a neighbour's published port that nobody listens on", func(s *site) *lab.Container { return s.a }, lab.HostIP, 8082},
		{"a neighbour's port published on one address, by it", func(s *site) *lab.Container { return s.a }, lab.HostIP, 8083},
		{"a neighbour's port published on 127.0.0.1, by the gateway", func(s *site) *lab.Container { return s.a }, lab.GatewayIP, 8084},
		{"a neighbour's port published on 127.0.0.1, by 127.0.0.1", func(s *site) *lab.Container { return s.a }, "127.0.0.1", 8084},
		{"not published, by the host's address", func(s *site) *lab.Container { return s.a }, lab.HostIP, 8079},
		{"a neighbour's own address", func(s *site) *lab.Container { return s.a }, "b", 80},
		{"its own address", func(s *site) *lab.Container { return s.b }, "b", 80},
		{"a neighbour's own address, nobody listens", func(s *site) *lab.Container { return s.a }, "b", 4444},
	} {
		list = append(list, both("a container to "+c.name, func(t *testing.T, s *site, network string) string {
			ip := c.ip
			if ip == "b" {
				ip = s.b.IP.String()
			}
			return s.ask(c.from(s).NS, network, lab.At(ip, c.port))
		})...)
	}
	list = append(list, one("a container to a neighbour's published port, an unconnected socket", func(t *testing.T, s *site) string {
		return s.loose(t, s.a.NS, lab.At(lab.HostIP, 8080)) + "; " + s.loose(t, s.a.NS, lab.At(lab.GatewayIP, 8080))
	})...)
	list = append(list, one("a name, from Docker's resolver", func(t *testing.T, s *site) string {
		if out := s.stranger.Exec(t, "/bin/busybox", "nslookup", s.friend.Name); !strings.Contains(out, s.friend.IP.String()) {
			return "no address"
		}
		return "its address"
	})...)
	return list
}

// hostChecks are the host's own sockets.
func hostChecks() (list []check) {
	for _, c := range []struct {
		name, ip string
		port     int
	}{
		{"127.0.0.1", "127.0.0.1", 8080},
		{"another loopback address", "127.1.2.3", 8080},
		{"its uplink's address", lab.HostIP, 8080},
		{"its second uplink's address", lab.HostIP1, 8080},
		{"the gateway's address", lab.GatewayIP, 8080},
		{"another network's gateway", otherGate, 8080},
		{"::1", "::1", 8080},
		{"127.0.0.1, where it is published there alone", "127.0.0.1", 8084},
		{"its uplink's address, where it is published there alone", lab.HostIP, 8083},
		{"127.0.0.1, where it is published on the uplinks' addresses", "127.0.0.1", 8083},
		{"127.0.0.1, where nobody listens", "127.0.0.1", 8082},
		{"its uplink's address, where nobody listens", lab.HostIP, 8082},
		{"127.0.0.1, not published", "127.0.0.1", 8079},
	} {
		list = append(list, both("the host to a published port by "+c.name, func(t *testing.T, s *site, network string) string {
			var opts []lab.Option
			if c.ip == "::1" {
				opts = append(opts, lab.From(fmt.Sprintf("[::]:%d", s.port())))
			}
			return s.ask(s.NS, network, lab.At(c.ip, c.port), opts...)
		})...)
	}
	list = append(list, both("the host to a published port by 127.0.0.1, bound to it", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, lab.At("127.0.0.1", 8080), lab.From(lab.At("127.0.0.1", s.port())))
	})...)
	list = append(list, one("the host to a published port, an unconnected socket", func(t *testing.T, s *site) string {
		return fmt.Sprintf("%s; %s; %s", s.loose(t, s.NS, lab.At("127.0.0.1", 8080)), s.loose(t, s.NS, lab.At(lab.HostIP, 8080)),
			s.loose(t, s.NS, lab.At(lab.GatewayIP, 8080)))
	})...)
	list = append(list, both("the host to a container's own address", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, s.web.At(80))
	})...)
	list = append(list, both("the host to a container's own address, not published", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, s.a.At(80))
	})...)
	list = append(list, both("the host to a container without inter-container communication", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, s.apartB.At(80))
	})...)
	list = append(list, both("the host to a container of an internal network", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, s.innerA.At(80))
	})...)
	return list
}
