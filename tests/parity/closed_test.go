package parity

import (
	"fmt"
	"net"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// closedChecks are about what must not be reached.
func closedChecks() (list []check) {
	list = append(list, both("a published container's own address, from the host's neighbour", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Router, network, s.web.At(80))
	})...)
	list = append(list, both("an unpublished port of a published container's own address, from the host's neighbour", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Router, network, s.web.At(81))
	})...)
	list = append(list, both("an unpublished container's own address, from the host's neighbour", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Router, network, s.a.At(80))
	})...)
	list = append(list, both("an internal network's container, from the host's neighbour", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Router, network, s.innerA.At(80))
	})...)
	list = append(list, one("ping of a container's own address, from the host's neighbour", func(t *testing.T, s *site) string {
		return s.ping(t, s.Router, s.a.IP.String(), 40)
	})...)
	for _, c := range []struct {
		name     string
		from, to func(s *site) *lab.Container
	}{
		{"another network's", func(s *site) *lab.Container { return s.stranger }, func(s *site) *lab.Container { return s.a }},
		{"docker0's from another network", func(s *site) *lab.Container { return s.a }, func(s *site) *lab.Container { return s.stranger }},
		{"a neighbour's without inter-container communication", func(s *site) *lab.Container { return s.apartB }, func(s *site) *lab.Container { return s.apartA }},
		{"a neighbour's on an internal network", func(s *site) *lab.Container { return s.innerA }, func(s *site) *lab.Container { return s.innerB }},
		{"an internal network's", func(s *site) *lab.Container { return s.a }, func(s *site) *lab.Container { return s.innerA }},
	} {
		list = append(list, both("a container to "+c.name+" container", func(t *testing.T, s *site, network string) string {
			return s.ask(c.from(s).NS, network, c.to(s).At(80))
		})...)
		list = append(list, one("ping "+c.name+" container", func(t *testing.T, s *site) string {
			return s.ping(t, c.from(s).NS, c.to(s).IP.String(), 40)
		})...)
	}
	list = append(list, one("ping another network's gateway", func(t *testing.T, s *site) string {
		return s.ping(t, s.a.NS, otherGate, 40)
	})...)
	list = append(list, both("an internal network's container to the outside", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerA.NS, network, lab.At(lab.RemoteIP, farPort))
	})...)
	// innerB has given itself a default route.
	list = append(list, both("an internal network's container with a route to the outside", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerB.NS, network, lab.At(lab.RemoteIP, farPort))
	})...)
	list = append(list, both("an internal network's container with a route to another network", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerB.NS, network, s.web.At(80))
	})...)
	list = append(list, both("an internal network's container to a published port by its gateway", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerB.NS, network, lab.At(innerGate, 8080))
	})...)
	list = append(list, both("an internal network's container with a route to a published port by the host's address", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerB.NS, network, lab.At(lab.HostIP, 8080))
	})...)
	list = append(list, both("an internal network's container to a port of the host", func(t *testing.T, s *site, network string) string {
		return s.ask(s.innerB.NS, network, lab.At(innerGate, hostPort))
	})...)
	// H-5: nobody may dial 127.0.0.1 over the wire.
	for _, c := range []struct {
		name string
		from func(s *site) (*lab.Netns, string, net.HardwareAddr, string)
	}{
		{"from the wire", func(s *site) (*lab.Netns, string, net.HardwareAddr, string) {
			return s.Router, "r0", nil, lab.RouterIP
		}},
		{"from a container", func(s *site) (*lab.Netns, string, net.HardwareAddr, string) {
			return s.a.NS, "eth0", nil, s.a.IP.String()
		}},
	} {
		list = append(list, one("a datagram to 127.0.0.1 "+c.name, func(t *testing.T, s *site) string {
			from, dev, _, src := c.from(s)
			to := "up0"
			if dev == "eth0" {
				to = lab.Bridge
			}
			inside, wire := s.web.NS.Capture(t, "eth0"), from.Capture(t, dev)
			text := fmt.Sprintf("over the wire %d", s.port())
			w := lab.Way{SrcMAC: from.Device(t, dev).HardwareAddr, DstMAC: s.NS.Device(t, to).HardwareAddr, Src: lab.AddrPort(src, s.port()), Dst: lab.AddrPort("127.0.0.1", 8084)}
			from.Inject(t, dev, w.UDP(t, []byte(text)))
			return settled(inside, "web", wire, text)
		})...)
	}
	return list
}

// settled waits as long as an answer might take, and says whether a text has arrived somewhere or come back.
func settled(inside *lab.Capture, name string, wire *lab.Capture, text string) string {
	arrived := func(p lab.Packet) bool { return !p.Sent && carrying(text)(p) }
	if _, ok := until(inside, arrived); ok {
		return "arrives at " + name
	}
	if _, ok := untilWithin(lab.Doubt, wire, arrived); ok {
		return "is answered"
	}
	return "nothing arrives"
}
