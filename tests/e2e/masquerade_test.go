package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// E-18: a container's port is kept where it is free, a low one too.
func TestPortIsKept(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		both(t, func(t *testing.T, network string) {
			for _, port := range []int{123, 5060, 27015, 51820, 65535} {
				s.carried(t, "out", 2, func() {
					a := c.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000), lab.From(fmt.Sprintf(":%d", port)))
					eq(t, "as seen outside", a.Client, lab.At(lab.HostIP, port))
				})
			}
		})
	})
}

// E-1: two containers that use one port towards one server both work, behind different ports, and neither gets the other's answers.
func TestSamePortTwice(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		a, b := s.Run(t, "a"), s.Run(t, "b")
		s.Remote.Serve(t, "far", ":7000")
		both(t, func(t *testing.T, network string) {
			for _, port := range []int{5001, 501} {
				from := lab.From(fmt.Sprintf(":%d", port))
				ca, cb := a.NS.Dial(t, network, lab.At(lab.RemoteIP, 7000), from), b.NS.Dial(t, network, lab.At(lab.RemoteIP, 7000), from)
				var seenA, seenB netip.AddrPort
				for i := range 3 {
					// Ask checks that each answer is to its own question.
					nowB, nowA := cb.Ask(t).Seen(), ca.Ask(t).Seen()
					if i > 0 && (nowA != seenA || nowB != seenB) {
						t.Errorf("a flow has moved from %v, %v to %v, %v", seenA, seenB, nowA, nowB)
					}
					seenA, seenB = nowA, nowB
				}
				eq(t, "address of a", seenA.Addr().String(), lab.HostIP)
				eq(t, "address of b", seenB.Addr().String(), lab.HostIP)
				if seenA == seenB {
					t.Errorf("both are %v outside", seenA)
				}
				if port < 1024 && (seenA.Port() >= 1024 || seenB.Port() >= 1024) {
					t.Errorf("low ports left as %v and %v", seenA, seenB)
				}
			}
		})
	})
}

// E-2: a port that the host itself uses towards the same server is not taken from it.
func TestPortOfTheHost(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		both(t, func(t *testing.T, network string) {
			host := s.NS.Dial(t, network, lab.At(lab.RemoteIP, 7000), lab.From(lab.At(lab.HostIP, 5002)))
			eq(t, "the host, before", host.Ask(t).Client, lab.At(lab.HostIP, 5002))
			guest := c.NS.Dial(t, network, lab.At(lab.RemoteIP, 7000), lab.From(":5002"))
			seen := guest.Ask(t).Seen()
			eq(t, "address", seen.Addr().String(), lab.HostIP)
			if seen.Port() == 5002 {
				t.Errorf("the container has taken the host's port")
			}
			eq(t, "the host, after", host.Ask(t).Client, lab.At(lab.HostIP, 5002))
			eq(t, "the container, after", guest.Ask(t).Seen(), seen)
		})
	})
}

// E-5: answers to a masqueraded flow whose port outside is a published one reach it, and a new client of the published port is not taken
// for that flow's server. A published port is nobody else's outside (E-4 in part), with a listener of Docker's on it or without.
func TestMasqueradeBesidePublished(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		c := s.Run(t, "c")
		s.Publish(t, "8081:80", web.Name)
		s.Publish(t, "8081:80/udp", web.Name)
		s.Remote.Serve(t, "far", ":7000")
		both(t, func(t *testing.T, network string) {
			for _, port := range []int{8080, 8081} {
				guest := c.NS.Dial(t, network, lab.At(lab.RemoteIP, 7000), lab.From(fmt.Sprintf(":%d", port)))
				seen := guest.Ask(t).Seen()
				eq(t, "address", seen.Addr().String(), lab.HostIP)
				if int(seen.Port()) == port {
					t.Errorf("a container's flow has taken the published port %d", port)
				}
				a := s.Remote.Ask(t, network, lab.At(lab.HostIP, port))
				eq(t, "who answers at the published port", a.Name, "web")
				eq(t, "whom it sees", a.Client, a.Self.String())
				// From the server's own address and another port, the packets differ from the flow's answers in one number.
				a = s.Remote.Ask(t, network, lab.At(lab.HostIP, port), lab.From(lab.At(lab.RemoteIP, 7001)))
				eq(t, "who answers the server's machine", a.Name, "web")
				eq(t, "the flow, after", guest.Ask(t).Seen(), seen)
			}
		})
	})
}
