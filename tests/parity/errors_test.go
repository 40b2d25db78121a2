package parity

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// ping sends one echo request of that size, and says who answers.
func (s *site) ping(t *testing.T, from *lab.Netns, to string, size int, opts ...func(p *lab.Pinger)) string {
	t.Helper()
	p := from.Ping(t, s.port())
	for _, opt := range opts {
		opt(p)
	}
	return s.pinged(t, p, to, size)
}

func (s *site) pinged(t *testing.T, p *lab.Pinger, to string, size int) string {
	t.Helper()
	return s.pingedWithin(t, p, to, size, patience)
}

// pingedWithin is pinged with another patience: a host takes three seconds to find out that a neighbour is not there.
func (s *site) pingedWithin(t *testing.T, p *lab.Pinger, to string, size int, within time.Duration) string {
	t.Helper()
	seq, err := p.TrySend(to, make([]byte, size))
	if err != nil {
		return reason(err)
	}
	for deadline := time.Now().Add(within); ; {
		h, err := p.Hear(time.Until(deadline))
		switch {
		case err != nil:
			return reason(err)
		case h.Echo != nil && (h.Echo.ID != p.ID() || h.Echo.Seq != seq):
			continue // another pinger's
		case h.Echo != nil:
			return fmt.Sprintf("%d bytes from %s", len(h.Echo.Data), s.address(h.From))
		case !h.Quotes(p.ID(), seq):
			continue
		}
		return fmt.Sprintf("%v %d from %s", h.Type, h.Code, s.address(h.From))
	}
}

// errorChecks are about ICMP: echo, and what is said of other packets.
func errorChecks() (list []check) {
	for _, c := range []struct {
		name string
		from func(s *site) *lab.Netns
		to   string
		size int
	}{
		{"a machine outside", func(s *site) *lab.Netns { return s.a.NS }, lab.RemoteIP, 40},
		{"a machine outside, 3000 bytes", func(s *site) *lab.Netns { return s.a.NS }, lab.RemoteIP, 3000},
		{"a machine outside, 60000 bytes", func(s *site) *lab.Netns { return s.a.NS }, lab.RemoteIP, 60000},
		{"a machine outside, nothing", func(s *site) *lab.Netns { return s.a.NS }, lab.RemoteIP, 0},
		{"the gateway", func(s *site) *lab.Netns { return s.a.NS }, lab.GatewayIP, 40},
		{"the host's uplink", func(s *site) *lab.Netns { return s.a.NS }, lab.HostIP, 40},
		{"the host's uplink, 3000 bytes", func(s *site) *lab.Netns { return s.a.NS }, lab.HostIP, 3000},
		{"into an unreachable route", func(s *site) *lab.Netns { return s.b.NS }, reachless, 40},
		{"into a prohibited route", func(s *site) *lab.Netns { return s.b.NS }, forbidden, 40},
		{"the host, from outside", func(s *site) *lab.Netns { return s.Remote }, lab.HostIP, 40},
		{"the host's second uplink, from outside, 3000 bytes", func(s *site) *lab.Netns { return s.Remote }, lab.HostIP1, 3000},
	} {
		list = append(list, one("ping "+c.name, func(t *testing.T, s *site) string { return s.ping(t, c.from(s), c.to, c.size) })...)
	}
	list = append(list, one("ping a machine that is not there", func(t *testing.T, s *site) string {
		return s.pingedWithin(t, s.a.NS.Ping(t, s.port()), nobody, 40, 3*patience)
	})...)
	list = append(list, one("ping a machine that is not there, the second time", func(t *testing.T, s *site) string {
		p := s.b.NS.Ping(t, s.port())
		s.pinged(t, p, "192.0.2.78", 40)
		return s.pingedWithin(t, p, "192.0.2.78", 40, 3*patience)
	})...)
	list = append(list, one("ping a neighbour; 3000 bytes", func(t *testing.T, s *site) string {
		return s.ping(t, s.a.NS, s.b.IP.String(), 40) + "; " + s.ping(t, s.a.NS, s.b.IP.String(), 3000)
	})...)
	list = append(list, one("the host pings a container; 3000 bytes", func(t *testing.T, s *site) string {
		return s.ping(t, s.NS, s.b.IP.String(), 40) + "; " + s.ping(t, s.NS, s.b.IP.String(), 3000)
	})...)
	list = append(list, one("two containers ping with one id", func(t *testing.T, s *site) string {
		id := s.port()
		first, second := s.a.NS.Ping(t, id), s.b.NS.Ping(t, id)
		return s.pinged(t, first, lab.RemoteIP, 40) + "; " + s.pinged(t, second, lab.RemoteIP, 41) + "; " + s.pinged(t, first, lab.RemoteIP, 42)
	})...)
	list = append(list, one("the host and a container ping with one id", func(t *testing.T, s *site) string {
		id := s.port()
		first, second := s.NS.Ping(t, id), s.b.NS.Ping(t, id)
		return s.pinged(t, first, lab.RemoteIP, 40) + "; " + s.pinged(t, second, lab.RemoteIP, 41) + "; " + s.pinged(t, first, lab.RemoteIP, 42)
	})...)
	for ttl := range 4 {
		list = append(list, one(fmt.Sprintf("ping with TTL %d", ttl+1), func(t *testing.T, s *site) string {
			return s.ping(t, s.a.NS, lab.RemoteIP, 40, func(p *lab.Pinger) { p.TTL(t, ttl+1) })
		})...)
	}
	for _, method := range []string{"-U", "-T", "-I"} {
		list = append(list, one("traceroute "+method, func(t *testing.T, s *site) string {
			return s.trace(t, s.a.NS, method, lab.RemoteIP, "-p", fmt.Sprint(farPort))
		})...)
	}
	list = append(list, one("traceroute -T from outside to a published port", func(t *testing.T, s *site) string {
		return s.trace(t, s.Remote, "-T", lab.HostIP, "-p", "8080")
	})...)
	list = append(list, one("traceroute -U from outside to a published port", func(t *testing.T, s *site) string {
		return s.trace(t, s.Remote, "-U", lab.HostIP, "-p", "8080")
	})...)
	list = append(list, one("a timestamp request (ICMP type 13)", func(t *testing.T, s *site) string {
		conn := s.raw(t, s.a.NS, "icmp")
		b, err := (&icmp.Message{Type: ipv4.ICMPType(13), Body: &icmp.Echo{ID: s.port(), Seq: 1, Data: make([]byte, 12)}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(b, &net.IPAddr{IP: net.ParseIP(lab.RemoteIP)}); err != nil {
			return reason(err)
		}
		from, _, err := heard(conn, func(p []byte) bool { return len(p) >= 8 && p[0] == 14 && string(p[4:8]) == string(b[4:8]) })
		if err != nil {
			return reason(err)
		}
		return "answered by " + s.address(from)
	})...)
	list = append(list, one("record route: what ping -R lists", func(t *testing.T, s *site) string {
		out, err := s.a.NS.TryRun("ping", "-n", "-R", "-c", "1", "-W", "4", lab.RemoteIP)
		if err != nil {
			return "silence"
		}
		_, rest, _ := strings.Cut(out, "RR:")
		var hops []string
		for _, f := range strings.Fields(rest) {
			ip, err := netip.ParseAddr(f)
			if err != nil {
				break
			}
			hops = append(hops, s.address(ip))
		}
		return strings.Join(hops, " ")
	})...)
	return list
}

// raw opens a raw socket for a protocol.
func (s *site) raw(t *testing.T, ns *lab.Netns, proto string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	err := ns.Do(func() (err error) {
		conn, err = net.ListenPacket("ip4:"+proto, "0.0.0.0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// heard waits for a packet that match accepts.
func heard(conn net.PacketConn, match func([]byte) bool) (netip.Addr, []byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return netip.Addr{}, nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return netip.Addr{}, nil, err
		}
		if match(buf[:n]) {
			ip, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP)
			if !ok {
				return ip, nil, errors.New("no address")
			}
			return ip.Unmap(), append([]byte(nil), buf[:n]...), nil
		}
	}
}

// trace lists traceroute's hops.
func (s *site) trace(t *testing.T, from *lab.Netns, method, to string, args ...string) string {
	t.Helper()
	if method == "-I" {
		args = nil
	}
	out, err := from.TryRun("traceroute", append([]string{"-n", "-q", "1", "-w", "3", "-m", "4", method, to}, args...)...)
	if err != nil {
		return "error"
	}
	var hops []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == "traceroute" {
			continue
		}
		if ip, err := netip.ParseAddr(f[1]); err == nil {
			hops = append(hops, s.address(ip))
		} else {
			hops = append(hops, f[1])
		}
	}
	return strings.Join(hops, " ")
}

// told waits for an ICMP error about packets from a port to an address and port, and says what it is.
func (s *site) told(c *lab.Capture, sport int, about string) string {
	dst := netip.MustParseAddrPort(about)
	p, ok := until(c, func(p lab.Packet) bool {
		if p.Sent || p.ICMP == nil || len(p.ICMP.Payload) < 28 {
			return false
		}
		inner := p.ICMP.Payload
		ip, _ := netip.AddrFromSlice(inner[16:20])
		at := int(inner[0]&15) * 4
		return len(inner) >= at+4 && ip == dst.Addr() && int(inner[at])<<8|int(inner[at+1]) == sport && uint16(inner[at+2])<<8|uint16(inner[at+3]) == dst.Port()
	})
	if !ok {
		return "silence"
	}
	out := fmt.Sprintf("%s from %s", p.ICMP.TypeCode, s.address(p.Source().Addr()))
	if p.ICMP.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded) {
		out += fmt.Sprintf(", %d bytes", p.ICMP.Seq)
	}
	if err := p.Checksums(); err != nil {
		out += ", with a wrong checksum"
	}
	return out
}
