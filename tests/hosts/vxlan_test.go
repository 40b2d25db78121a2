package hosts

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

const vxlan = `{"Type":"vxlan"}`

// tunnelled gives the packet inside a VXLAN packet of the wire, or nil.
func tunnelled(p lab.Packet) (outer *layers.VXLAN, eth *layers.Ethernet, ip *layers.IPv4) {
	if p.UDP == nil || p.UDP.DstPort != 8472 {
		return nil, nil, nil
	}
	d := gopacket.NewPacket(p.UDP.Payload, layers.LayerTypeVXLAN, gopacket.Default)
	outer, _ = d.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	eth, _ = d.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	ip, _ = d.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	return outer, eth, ip
}

// overlay D5, overlay D4: megabytes arrive whole, both ways; what is too big and may not be cut is answered from the gateway with the MTU that
// fits, and what may be cut arrives.
func TestSizes(t *testing.T) {
	eachWorld(t, vxlan, func(t *testing.T, s *segment, a, b *host) {
		const size = 8 << 20
		client := a.c.NS.Dial(t, "tcp", b.at(80))
		if got, err := client.Sink(size, 4*lab.Patience); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("there: %q %v", got, err)
		}
		if got, err := client.Source(size, 4*lab.Patience); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("back: %q %v", got, err)
		}
		a.c.NS.Ask(t, "udp", b.at(80), lab.Size(4000))
		// A bridge that nobody has told of the network's MTU.
		a.NS.IP(t, "link set "+a.Endpoint(t, a.c.IP).Veth+" mtu 1500")
		a.NS.IP(t, "link set docker0 mtu 1500")
		a.c.NS.IP(t, "link set eth0 mtu 1500")
		conn := a.c.NS.ListenUDP(t, "0.0.0.0:0")
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var serr error
		if err := raw.Control(func(fd uintptr) {
			serr = unix.SetsockoptInt(int(fd), syscall.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}); err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		inside := a.c.NS.Capture(t, "eth0")
		if _, err := conn.WriteToUDPAddrPort(make([]byte, 1472), lab.AddrPort(b.c.IP.String(), 80)); err != nil {
			t.Fatal(err)
		}
		p := inside.Find(t, "an ICMP error", func(p lab.Packet) bool {
			return p.ICMP != nil && p.ICMP.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
		})
		eq(t, "J-2: who answers", p.IP.SrcIP.String(), a.subnet.Addr().Next().String())
		eq(t, "J-2: with which MTU", p.ICMP.Seq, innerMTU)
		// J-4: with fragments allowed.
		a.c.NS.Ask(t, "udp", b.at(80), lab.Size(1472))
		a.c.NS.Ask(t, "udp", b.at(80), lab.Size(3000))
	})
}

// J-7: an address of the network that no host has is not for the internet: it is dropped, and counted.
func TestUnknownPeer(t *testing.T) {
	eachWorld(t, vxlan, func(t *testing.T, s *segment, a, b *host) {
		up, wire := a.NS.Capture(t, "up0"), s.ns.Capture(t, "p1")
		a.c.NS.Unanswered(t, "udp", "10.200.77.5:80")
		a.NS.Unanswered(t, "udp", "10.200.77.5:80")
		for _, c := range []*lab.Capture{up, wire} {
			c.None(t, "a packet for nobody", func(p lab.Packet) bool {
				if _, _, ip := tunnelled(p); ip != nil {
					p.IP = ip
				}
				return p.IP != nil && p.IP.DstIP.String() == "10.200.77.5"
			})
		}
		// overlay L5: a host that dies takes its lease with it, and what was for it is dropped too.
		a.c.NS.Ask(t, "udp", b.at(80))
		b.kill()
		a.untilPeers(t, 0)
		a.c.NS.Unanswered(t, "udp", b.at(80))
		up.None(t, "a packet for the host that was", func(p lab.Packet) bool { return p.IP != nil && p.IP.DstIP.String() == b.c.IP.String() })
		// overlay L2: it comes back with its subnet, and is reached again.
		b.start(t)
		a.untilPeers(t, 1)
		lab.Eventually(t, 4*lab.Patience, func() error {
			_, err := a.c.NS.TryAsk("udp", b.at(80), lab.Within(time.Second))
			return err
		})
	})
}

// overlay E1, overlay L2: etcd's absence, and an agent's death, stop nothing that is known.
func TestWithoutEtcd(t *testing.T) {
	eachWorld(t, vxlan, func(t *testing.T, s *segment, a, b *host) {
		client := a.c.NS.Dial(t, "tcp", b.at(80))
		client.Ask(t)
		s.ns.IP(t, "link set pe down")
		b.kill()
		lab.Throughout(t, 6*time.Second, func() error {
			_, err := client.TryAsk()
			return err
		})
		b.start(t) // knows its place from before
		client.Ask(t)
		a.c.NS.Ask(t, "udp", b.at(80))
		lab.Eventually(t, 4*lab.Patience, func() error {
			if o := b.Status(t).Overlay; o == nil || o.Connected || o.Subnet != b.subnet.String() {
				return fmt.Errorf("status: %+v", o)
			}
			return nil
		})
		s.ns.IP(t, "link set pe up")
	})
}

// J-11: a published port that is dialled through the network answers through the network, from the address that was dialled.
func TestPublishedAcrossHosts(t *testing.T) {
	eachWorld(t, vxlan, func(t *testing.T, s *segment, a, b *host) {
		for _, network := range []string{"tcp", "udp"} {
			for _, to := range []string{b.own(), b.subnet.Addr().Next().String()} {
				answer := a.c.NS.Ask(t, network, lab.At(to, 8080))
				eq(t, network+": who answers", answer.From.Addr().String(), to)
				eq(t, network+": who is seen", answer.Seen().Addr().String(), a.c.IP.String())
			}
			a.c.NS.Ask(t, network, lab.At(b.public, 8080)) // as from anywhere else
			a.NS.Ask(t, network, lab.At(b.public, 8080))
		}
	})
}
