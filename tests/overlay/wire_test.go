package overlay

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// What two hosts say to each other, and what they take from others. One pair serves, and its last steps change it.
func TestWire(t *testing.T) {
	p := newPair(t, lab.Default, vxlan)
	h := p.hosts[0]

	// overlay D1, J-6, J-13: an echo request as flannel would send it, held by a golden file; one flow has one source port, and others have others.
	t.Run("outer", func(t *testing.T) {
		golden(t, "vxlan.txt", p.exchange(t, 21, inVXLAN))
		golden(t, "vxlan-record.txt", p.record(t))
		wire := p.segment.Router.Capture(t, "h1")

		client := p.c[0].NS.Dial(t, "tcp", p.c[1].At(80))
		before := len(outer(wire))
		for range 5 {
			client.Ask(t)
		}
		one := map[layers.UDPPort]bool{}
		for _, o := range outer(wire)[before:] {
			if o.IP.SrcIP.String() == h.IP {
				one[o.UDP.SrcPort] = true
			}
		}
		if len(one) != 1 {
			t.Errorf("one flow leaves with the source ports %v, want one", one)
		}
		many := map[layers.UDPPort]bool{}
		before = len(outer(wire))
		for range 8 {
			p.c[0].NS.Ask(t, "tcp", p.c[1].At(80))
		}
		for _, o := range outer(wire)[before:] {
			if o.IP.SrcIP.String() == h.IP {
				many[o.UDP.SrcPort] = true
			}
		}
		if len(many) < 4 {
			t.Errorf("eight flows leave with the source ports %v", many)
		}
	})

	// J-5: a packet in a tunnel is taken from the host that has the subnet of its inner source, at the address that the others know, and with
	// the network's number, only; a container that sends to a host's tunnel port is none of these, though its own host hides its address.
	t.Run("spoofed", func(t *testing.T) {
		inner := func(from string) []byte { return innerFrame(t, from, p.c[0].IP) }
		const second = "198.18.0.99"
		h.NS.IP(t, "addr add "+second+"/24 dev "+lab.SegmentDevice)
		seen := p.c[0].NS.Capture(t, "eth0")
		for name, s := range map[string]struct {
			ns    *lab.Netns
			to    string
			vni   uint32
			inner string
		}{
			"a stranger":                   {p.segment.Router, h.IP, 1, p.c[1].IP.String()},
			"another's subnet":             {p.hosts[1].NS, h.IP, 1, "10.200.255.2"},
			"another network":              {p.hosts[1].NS, h.IP, 9, p.c[1].IP.String()},
			"another address":              {p.hosts[1].NS, second, 1, p.c[1].IP.String()},
			"a container of the same host": {p.c[0].NS, h.IP, 1, p.c[1].IP.String()},
			"a container of the host":      {p.c[1].NS, h.IP, 1, p.c[1].IP.String()},
		} {
			t.Run(name, func(t *testing.T) {
				s.ns.Send(t, lab.At(s.to, 8472), wrap(t, s.vni, inner(s.inner)))
			})
		}
		h.NS.IP(t, "addr del "+second+"/24 dev "+lab.SegmentDevice)
		seen.None(t, "a spoofed packet", func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
		// What must arrive does, so that none of these is lost for another reason.
		p.hosts[1].NS.Send(t, lab.At(h.IP, 8472), wrap(t, 1, inner(p.c[1].IP.String())))
		seen.Find(t, "a packet as the other host sends it", func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
	})

	// overlay D7: what others do to the device is undone.
	for name, deed := range map[string]string{
		"down": "link set %s down", "deleted": "link delete %s", "another address": "link set %s address 0e:eb:c6:00:00:99",
	} {
		t.Run("device "+name, func(t *testing.T) {
			h.NS.IP(t, fmt.Sprintf(deed, p.device(t)))
			took := lab.Eventually(t, settled, func() error {
				if _, err := h.NS.TryAsk("udp", p.c[1].At(80), lab.Within(200*time.Millisecond)); err != nil {
					return err
				}
				_, err := p.c[0].NS.TryAsk("tcp", p.c[1].At(80), lab.Within(200*time.Millisecond))
				return err
			})
			t.Logf("repaired in %v", took)
			if mac := h.NS.IP(t, "-brief link show dev "+p.device(t)); !strings.Contains(mac, "0e:eb:c6:12:00:0b") {
				t.Errorf("the device is %s", mac)
			}
		})
	}

	// overlay E1: the datapath needs no etcd, not even for a container that begins without it.
	t.Run("etcd stopped", func(t *testing.T) {
		if err := p.segment.StopEtcd(); err != nil {
			t.Fatal(err)
		}
		fresh := h.Host.Run(t, "fresh")
		h.Await(t, fresh)
		if seen := fresh.NS.Ask(t, "tcp", p.c[1].At(80)).Seen().Addr(); seen != fresh.IP {
			t.Errorf("seen as %s, want %s", seen, fresh.IP)
		}
		p.c[1].NS.Ask(t, "tcp", fresh.At(80))
		p.segment.StartEtcd(t)
	})

	p.signals(t)
	p.records(t)

	// J-7: what goes to a subnet that nobody has any more is dropped, and not masqueraded to the world.
	t.Run("peer gone", func(t *testing.T) {
		world := p.segment.Router.Capture(t, "seg0")
		if err := p.hosts[1].StopAgent(); err != nil {
			t.Fatal(err)
		}
		p.segment.Etcdctl(t, "del", "/coreos.com/network/subnets/"+strings.ReplaceAll(p.subnets[1].String(), "/", "-"))
		lab.Eventually(t, settled, func() error {
			if list := h.Instance.Run(t, "peer", "list"); strings.Contains(list, p.subnets[1].String()) {
				return fmt.Errorf("still there: %s", list)
			}
			return nil
		})
		p.c[0].NS.Unanswered(t, "udp", p.c[1].At(80))
		world.None(t, "a packet to the host that is gone", func(q lab.Packet) bool {
			return q.IP != nil && q.IP.DstIP.Equal(p.c[1].IP.AsSlice())
		})
		// overlay L2: it comes back with the subnet that it had.
		p.hosts[1].StartAgent(t)
		awaitPeer(t, h, p.subnets[1], p.hosts[1].IP)
		lab.Eventually(t, settled, func() error {
			_, err := p.c[0].NS.TryAsk("tcp", p.c[1].At(80), lab.Within(time.Second))
			return err
		})
	})

	p.portTaken(t)
}

// device is the name of the first host's tunnel.
func (p *pair) device(t *testing.T) string {
	t.Helper()
	var name string
	lab.Eventually(t, settled, func() error {
		out := p.hosts[0].NS.IP(t, "-brief link show type vxlan")
		if name, _, _ = strings.Cut(out, " "); name == "" {
			return fmt.Errorf("there is no VXLAN device")
		}
		return nil
	})
	return name
}

// innerFrame is the frame that a tunnel's packet to a container's port 4242 carries.
func innerFrame(t *testing.T, from string, to netip.Addr) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 63, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: to.AsSlice()}
	udp := &layers.UDP{SrcPort: 4241, DstPort: 4242}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{0x0e, 0xeb, 0xc6, 0x12, 0, 0x0c}, DstMAC: net.HardwareAddr{0x0e, 0xeb, 0xc6, 0x12, 0, 0x0b}, EthernetType: layers.EthernetTypeIPv4}
	return lab.Frame(t, eth, ip, udp, gopacket.Payload("inner"))
}

// wrap puts the VXLAN header before a frame.
func wrap(t *testing.T, vni uint32, frame []byte) []byte {
	t.Helper()
	return lab.Frame(t, &layers.VXLAN{ValidIDFlag: true, VNI: vni}, gopacket.Payload(frame))
}
