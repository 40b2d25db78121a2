package parity

import (
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// pathChecks change a route or a device's MTU, so they run alone.
func pathChecks() (list []check) {
	far := lab.At(lab.RemoteIP, farPort)
	// beyond makes the way beyond the router smaller.
	beyond := func(t *testing.T, s *site) {
		s.Router.IP(t, "link set rr mtu 1300")
		s.Remote.IP(t, "link set far mtu 1300")
		t.Cleanup(func() {
			s.Router.IP(t, "link set rr mtu 1500")
			s.Remote.IP(t, "link set far mtu 1500")
			for _, ns := range []*lab.Netns{s.a.NS, s.web.NS, s.NS} {
				ns.IP(t, "route flush cache")
			}
		})
	}
	uplink := func(t *testing.T, s *site) {
		s.NS.IP(t, "link set up0 mtu 1400")
		s.Router.IP(t, "link set r0 mtu 1400")
		t.Cleanup(func() {
			s.NS.IP(t, "link set up0 mtu 1500")
			s.Router.IP(t, "link set r0 mtu 1500")
			s.a.NS.IP(t, "route flush cache")
		})
	}
	// tooLong sends a datagram that must not be cut up.
	tooLong := func(t *testing.T, s *site) string {
		inside := s.a.NS.Capture(t, "eth0")
		port := s.port()
		client := s.dial(t, s.a.NS, "udp", far, lab.From(fmt.Sprintf(":%d", port)))
		onSocket(t, client.Conn(), func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if _, err := client.Conn().Write(make([]byte, 1450)); err != nil {
			return reason(err)
		}
		out := s.told(inside, port, far)
		mtu := 0
		onSocket(t, client.Conn(), func(fd int) (err error) {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
			return err
		})
		return fmt.Sprintf("%s; the socket's MTU is %d", out, mtu)
	}
	list = append(list, alone("smaller beyond the router: a datagram that must not be cut up", func(t *testing.T, s *site) string {
		beyond(t, s)
		return tooLong(t, s)
	})...)
	list = append(list, alone("smaller beyond the router: two megabytes outwards", func(t *testing.T, s *site) string {
		beyond(t, s)
		return bulk(s.dial(t, s.a.NS, "tcp", far), 2<<20)
	})...)
	list = append(list, alone("smaller beyond the router: two megabytes to a published port", func(t *testing.T, s *site) string {
		beyond(t, s)
		return bulk(s.dial(t, s.Remote, "tcp", lab.At(lab.HostIP, 8080)), 2<<20)
	})...)
	list = append(list, alone("smaller uplink: a datagram that must not be cut up", func(t *testing.T, s *site) string {
		uplink(t, s)
		return tooLong(t, s)
	})...)
	list = append(list, alone("smaller uplink: a datagram that may be cut up", func(t *testing.T, s *site) string {
		uplink(t, s)
		client := s.dial(t, s.a.NS, "udp", far)
		onSocket(t, client.Conn(), func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		})
		return s.bare(t, client, echoText(0, 1450))
	})...)
	list = append(list, alone("smaller uplink: two megabytes outwards", func(t *testing.T, s *site) string {
		uplink(t, s)
		return bulk(s.dial(t, s.a.NS, "tcp", far), 2<<20)
	})...)
	list = append(list, alone("smaller uplink: the segment size that far is told", func(t *testing.T, s *site) string {
		uplink(t, s)
		wire := s.Remote.Capture(t, "far")
		port := s.port()
		s.ask(s.a.NS, "tcp", far, lab.From(fmt.Sprintf(":%d", port)))
		p, ok := until(wire, func(p lab.Packet) bool { return p.TCP != nil && p.TCP.SYN && !p.TCP.ACK && int(p.TCP.SrcPort) == port })
		if !ok {
			return "no SYN"
		}
		for _, o := range p.TCP.Options {
			if o.OptionType == layers.TCPOptionKindMSS {
				return fmt.Sprint(int(o.OptionData[0])<<8 | int(o.OptionData[1]))
			}
		}
		return "none"
	})...)
	list = append(list, alone("a rule that sends containers by the second uplink", func(t *testing.T, s *site) string {
		s.NS.IP(t, "route add default via "+lab.RouterIP1+" table 100")
		s.NS.IP(t, "rule add from "+lab.BridgeNet+" lookup 100")
		t.Cleanup(func() {
			s.NS.IP(t, "rule del from "+lab.BridgeNet+" lookup 100")
			s.NS.IP(t, "route del default table 100")
		})
		return becomes("far saw host1, own port", func() string { return s.ask(s.a.NS, "udp", far) })
	})...)
	list = append(list, alone("a route that names its source address", func(t *testing.T, s *site) string {
		s.NS.IP(t, "addr add 192.0.2.9/24 dev up0")
		s.NS.IP(t, "route add "+lab.RemoteIP2+" via "+lab.RouterIP+" src 192.0.2.9")
		t.Cleanup(func() {
			s.NS.IP(t, "route del "+lab.RemoteIP2)
			s.NS.IP(t, "addr del 192.0.2.9/24 dev up0")
		})
		return s.ask(s.a.NS, "udp", lab.At(lab.RemoteIP2, farPort))
	})...)
	list = append(list, alone("no route", func(t *testing.T, s *site) string {
		s.NS.IP(t, "route del default")
		t.Cleanup(func() { s.NS.IP(t, "route add default via "+lab.RouterIP) })
		return s.ask(s.a.NS, "udp", lab.At(lab.RemoteIP2, farPort))
	})...)
	return list
}
