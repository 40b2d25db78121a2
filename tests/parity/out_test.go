package parity

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// outChecks are containers that talk to machines outside.
func outChecks() (list []check) {
	far := lab.At(lab.RemoteIP, farPort)
	list = append(list, both("to a machine outside", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, far)
	})...)
	list = append(list, both("to a machine behind the second uplink", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, lab.At(lab.RemoteBy1, farPort))
	})...)
	list = append(list, both("from another network", func(t *testing.T, s *site, network string) string {
		return s.ask(s.stranger.NS, network, far)
	})...)
	list = append(list, both("from a container on two networks", func(t *testing.T, s *site, network string) string {
		return s.ask(s.dual.NS, network, far)
	})...)
	list = append(list, both("from a container without inter-container communication", func(t *testing.T, s *site, network string) string {
		return s.ask(s.apartB.NS, network, far)
	})...)
	list = append(list, both("to the host", func(t *testing.T, s *site, network string) string {
		return fmt.Sprintf("%s; %s; %s", s.ask(s.a.NS, network, lab.At(lab.GatewayIP, hostPort)), s.ask(s.a.NS, network, lab.At(lab.HostIP, hostPort)),
			s.ask(s.a.NS, network, lab.At(lab.HostIP1, hostPort)))
	})...)
	list = append(list, one("an empty datagram", func(t *testing.T, s *site) string {
		conn := s.dial(t, s.a.NS, "udp", far)
		return s.bare(t, conn, nil)
	})...)
	list = append(list, one("a datagram cut up by the kernel (UDP_SEGMENT)", func(t *testing.T, s *site) string {
		client := s.dial(t, s.a.NS, "udp", far)
		onSocket(t, client.Conn(), func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000) })
		if _, err := client.Conn().Write(make([]byte, 4500)); err != nil {
			return reason(err)
		}
		n := 0
		for ; n < 5; n++ {
			if s.hear(t, client) != "answered" {
				break
			}
		}
		return fmt.Sprintf("%d answers", n)
	})...)
	list = append(list, both("to where nobody listens", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, lab.At(lab.RemoteIP, 7999))
	})...)
	list = append(list, both("to a neighbour of the host that is not there", func(t *testing.T, s *site, network string) string {
		// What TCP sends again is what the error is about, at the latest.
		return s.ask(s.a.NS, network, lab.At(nobody, farPort), lab.Within(3*patience))
	})...)
	for _, r := range []struct{ name, ip string }{
		{"an unreachable route", reachless}, {"a prohibited route", forbidden}, {"a black hole", swallowed},
	} {
		list = append(list, both("into "+r.name, func(t *testing.T, s *site, network string) string {
			// A router spares a sender more than a few of these errors, and friend gets no others.
			return s.ask(s.friend.NS, network, lab.At(r.ip, farPort))
		})...)
	}
	return list
}

// portChecks are about the port that a flow leaves with.
func portChecks() (list []check) {
	far := lab.At(lab.RemoteIP, farPort)
	list = append(list, both("from port 123", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, far, lab.From(":123"))
	})...)
	list = append(list, both("two containers from one port", func(t *testing.T, s *site, network string) string {
		from := lab.From(fmt.Sprintf(":%d", s.port()))
		first, second := s.dial(t, s.a.NS, network, far, from), s.dial(t, s.b.NS, network, far, from)
		return fmt.Sprintf("%s; %s; %s", s.again(first), s.again(second), s.again(first))
	})...)
	list = append(list, both("two containers from one port below 1024", func(t *testing.T, s *site, network string) string {
		first, second := s.dial(t, s.a.NS, network, far, lab.From(":601")), s.dial(t, s.b.NS, network, far, lab.From(":601"))
		out := s.again(first)
		a, err := second.TryAsk()
		if err != nil {
			return out + "; " + reason(err)
		}
		return fmt.Sprintf("%s; %s saw a port below 1024: %v", out, a.Name, a.Seen().Port() < 1024)
	})...)
	list = append(list, both("a container from a port that the host uses", func(t *testing.T, s *site, network string) string {
		port := s.port()
		host := s.dial(t, s.NS, network, far, lab.From(lab.At(lab.HostIP, port)))
		first := s.again(host)
		guest := s.dial(t, s.a.NS, network, far, lab.From(fmt.Sprintf(":%d", port)))
		return fmt.Sprintf("host: %s; container: %s; host: %s", first, s.again(guest), s.again(host))
	})...)
	list = append(list, both("the host from a port that a container uses", func(t *testing.T, s *site, network string) string {
		port := s.port()
		guest := s.dial(t, s.a.NS, network, far, lab.From(fmt.Sprintf(":%d", port)))
		first := s.again(guest)
		host := s.dial(t, s.NS, network, far, lab.From(lab.At(lab.HostIP, port)))
		return fmt.Sprintf("container: %s; host: %s; container: %s", first, s.again(host), s.again(guest))
	})...)
	list = append(list, one("one socket to two machines", func(t *testing.T, s *site) string {
		conn := s.a.NS.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
		var out string
		for _, ip := range []string{lab.RemoteIP, lab.RemoteIP2} {
			a, err := lab.AskFrom(conn, lab.At(ip, farPort), patience)
			if err != nil {
				return reason(err)
			}
			out += s.answer(a) + "; "
		}
		return out[:len(out)-2]
	})...)
	list = append(list, one("a connection reset and opened again from its port", func(t *testing.T, s *site) string {
		from := lab.From(fmt.Sprintf(":%d", s.port()))
		client := s.dial(t, s.a.NS, "tcp", far, from)
		first := s.again(client)
		client.Reset(t)
		return first + "; " + s.ask(s.a.NS, "tcp", far, from)
	})...)
	list = append(list, one("a machine that was not asked, to the port of a flow", func(t *testing.T, s *site) string {
		port := s.port()
		flow := s.dial(t, s.a.NS, "udp", far, lab.From(fmt.Sprintf(":%d", port)))
		return s.again(flow) + "; the other machine: " + s.ask(s.Remote, "udp", lab.At(lab.HostIP, port), lab.From(lab.At(lab.RemoteIP2, farPort+1)))
	})...)
	// E-21: a flow whose own port is one that the host listens on.
	list = append(list, one("port shadow: who gets what comes from a flow's server to a port of the host", func(t *testing.T, s *site) string {
		port := s.port()
		s.NS.Serve(t, "service", fmt.Sprintf(":%d", port))
		server := s.Remote.ListenUDP(t, lab.At(lab.RemoteIP, s.port()))
		flow := s.a.NS.ListenUDP(t, fmt.Sprintf(":%d", port))
		if _, err := flow.WriteTo([]byte("out"), server.LocalAddr()); err != nil {
			return reason(err)
		}
		if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := server.ReadFrom(make([]byte, 16)); err != nil {
			return "the flow: " + reason(err)
		}
		a, err := lab.AskFrom(server, lab.At(lab.HostIP, port), patience)
		if err != nil {
			return "not the service: " + reason(err)
		}
		return a.Name
	})...)
	return list
}
