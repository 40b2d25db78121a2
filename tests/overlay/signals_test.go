package overlay

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// setOption sets a socket option of IPv4.
func setOption(t *testing.T, conn *net.UDPConn, option, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), syscall.IPPROTO_IP, option, value) }); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
}

// signals is what headers say beside addresses, and what else is in the kernel.
func (p *pair) signals(t *testing.T) {
	h := p.hosts[0]

	// J-8: outside stands what the packet says of congestion, and no service of its own; the TTL is 64, and the packet may be cut (the golden
	// file). What is marked for congestion on the way is so inside.
	t.Run("congestion", func(t *testing.T) {
		wire := p.segment.Router.Capture(t, "h1")
		conn := p.c[0].NS.ListenUDP(t, "0.0.0.0:0")
		setOption(t, conn, unix.IP_TOS, 0xb9)
		if _, err := conn.WriteToUDPAddrPort([]byte("marked"), lab.AddrPort(p.c[1].IP.String(), 4243)); err != nil {
			t.Fatal(err)
		}
		o := wire.Find(t, "the outer packet", func(q lab.Packet) bool {
			return q.UDP != nil && q.UDP.DstPort == 8472 && strings.Contains(string(q.UDP.Payload), "marked")
		})
		if o.IP.TOS != 0x01 || o.IP.TTL != 64 {
			t.Errorf("outside: service %#x, ttl %d", o.IP.TOS, o.IP.TTL)
		}
		if inner := o.UDP.Payload[8+14+1]; inner != 0xb9 {
			t.Errorf("inside: service %#x", inner)
		}

		seen := p.c[0].NS.Capture(t, "eth0")
		inner := innerFrame(t, p.c[1].IP.String(), p.c[0].IP)
		inner[14+1] = 0x02
		binary.BigEndian.PutUint16(inner[14+10:], binary.BigEndian.Uint16(inner[14+10:])-0x02)
		from, to := p.hosts[1].NS.Device(t, lab.SegmentDevice), h.NS.Device(t, lab.SegmentDevice)
		ip := &layers.IPv4{Version: 4, TTL: 64, TOS: 0x03, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(p.hosts[1].IP), DstIP: net.ParseIP(h.IP)}
		udp := &layers.UDP{SrcPort: 40000, DstPort: 8472}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		p.hosts[1].NS.Inject(t, lab.SegmentDevice, lab.Frame(t, &layers.Ethernet{SrcMAC: from.HardwareAddr, DstMAC: to.HardwareAddr,
			EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(wrap(t, 1, inner))))
		got := seen.Find(t, "the inner packet", func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
		if got.IP.TOS != 0x03 {
			t.Errorf("service %#x arrives, want 0x3", got.IP.TOS)
		}
	})

	// J-9: a VXLAN of the host's own is none of ours, and neither it nor our tunnel's packets are flows.
	t.Run("the host's own tunnel", func(t *testing.T) {
		for i, m := range p.hosts {
			m.NS.IP(t, fmt.Sprintf("link add own9 type vxlan id 9 dstport 4789 remote %s dev %s", p.hosts[1-i].IP, lab.SegmentDevice))
			m.NS.IP(t, fmt.Sprintf("addr add 192.168.9.%d/24 dev own9", i+1))
			m.NS.IP(t, "link set own9 up")
		}
		p.hosts[0].NS.Ping(t, 41).Ping(t, "192.168.9.2", []byte("by our own tunnel"))
		p.hosts[1].NS.Ping(t, 42).Ping(t, "192.168.9.1", []byte("and back"))
		p.c[0].NS.Ask(t, "tcp", p.c[1].At(80))
		for _, f := range h.Flows(t) {
			if to := f.Original.Destination; strings.HasSuffix(to, ":8472") || strings.HasSuffix(to, ":4789") {
				t.Errorf("a tunnel's packets are a flow: %+v", f)
			}
		}
		for _, m := range p.hosts {
			m.NS.IP(t, "link delete own9")
		}
	})

	// J-12: with netfilter's hooks on bridges, what is cut on its way into the tunnel still arrives, and the machine stands.
	t.Run("br_netfilter", func(t *testing.T) {
		const hook = "net/bridge/bridge-nf-call-iptables"
		for _, m := range p.hosts {
			if before, err := m.NS.TryRun("cat", "/proc/sys/"+hook); err == nil {
				m.NS.SetSysctl(t, hook, "1")
				t.Cleanup(func() { m.NS.SetSysctl(t, hook, strings.TrimSpace(before)) })
			} else {
				t.Log("this kernel has no br_netfilter loaded: pieces go through without its hooks")
			}
			m.NS.IP(t, "link set docker0 mtu 1500")
		}
		for i := range p.hosts {
			for range 3 {
				p.c[i].NS.Ask(t, "udp", p.c[1-i].At(80), lab.Size(8000))
			}
		}
	})
}

// tooBig sends what does not fit and may not be cut. J-2: it is answered from the gateway's address with what fits.
func (p *pair) tooBig(t *testing.T, mtu int) {
	t.Helper()
	h := p.hosts[0]
	h.NS.IP(t, "link set "+h.Endpoint(t, p.c[0].IP).Veth+" mtu 1500")
	h.NS.IP(t, "link set docker0 mtu 1500")
	p.c[0].NS.IP(t, "link set eth0 mtu 1500")
	inside := p.c[0].NS.Capture(t, "eth0")
	conn := p.c[0].NS.ListenUDP(t, "0.0.0.0:0")
	setOption(t, conn, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	if _, err := conn.WriteToUDPAddrPort(make([]byte, 1472), lab.AddrPort(p.c[1].IP.String(), 80)); err != nil {
		t.Fatal(err)
	}
	told := inside.Find(t, "an ICMP error", func(q lab.Packet) bool {
		return q.ICMP != nil && q.ICMP.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded)
	})
	if who := told.Source().Addr(); who != p.subnets[0].Addr().Next() {
		t.Errorf("J-2: %s answers", who)
	}
	if int(told.ICMP.Seq) != mtu {
		t.Errorf("J-2: the MTU is %d, want %d", told.ICMP.Seq, mtu)
	}
	p.c[0].NS.Ask(t, "udp", p.c[1].At(80), lab.Size(1472)) // J-4
}

// forgedDatagrams: J-5: a datagram is opened that the host sends that has the subnet of what is in it, and no other.
func (p *pair) forgedDatagrams(t *testing.T) {
	t.Helper()
	h := p.hosts[0]
	inner := func(from string) []byte { return innerFrame(t, from, p.c[0].IP)[14:] }
	seen := p.c[0].NS.Capture(t, "eth0")
	for name, s := range map[string]struct {
		ns   *lab.Netns
		from string
	}{
		"a stranger":                   {p.segment.Router, p.c[1].IP.String()},
		"another's subnet":             {p.hosts[1].NS, "10.200.255.2"},
		"a container of the same host": {p.c[0].NS, p.c[1].IP.String()},
		"a container of the host":      {p.c[1].NS, p.c[1].IP.String()},
	} {
		t.Logf("from %s", name)
		s.ns.Send(t, lab.At(h.IP, 8285), inner(s.from))
	}
	seen.None(t, "a forged packet", func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
	p.hosts[1].NS.Send(t, lab.At(h.IP, 8285), inner(p.c[1].IP.String()))
	seen.Find(t, "a packet as the other host sends it", func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
}

// records: what etcd may hold beside the hosts' own records.
func (p *pair) records(t *testing.T) {
	h := p.hosts[0]
	const key = "/coreos.com/network/subnets/"
	listed := func(subnet string, want bool) {
		t.Helper()
		lab.Eventually(t, settled, func() error {
			if list := h.Instance.Run(t, "peer", "list"); strings.Contains(list, subnet) != want {
				return fmt.Errorf("%s is listed: %v, want %v: %s", subnet, !want, want, list)
			}
			return nil
		})
	}

	// overlay D9: a host that has IPv6 too is a peer for its IPv4.
	t.Run("a host with both families", func(t *testing.T) {
		const dual = key + "10.200.77.0-24&fd00:200:0:56::-64"
		p.segment.Etcdctl(t, "put", dual, `{"PublicIP":"198.18.0.77","PublicIPv6":"fd00::77","BackendType":"vxlan",`+
			`"BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:77"},"BackendV6Data":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:78"}}`)
		listed("10.200.77.0/24", true)
		p.segment.Etcdctl(t, "del", dual)
		listed("10.200.77.0/24", false)
	})

	// overlay D10: what has changed while the agent was away is so as soon as it is back, and what is not its own is left alone.
	t.Run("changes without an agent", func(t *testing.T) {
		const gone = key + "10.200.78.0-24"
		p.segment.Etcdctl(t, "put", gone, `{"PublicIP":"198.18.0.78","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:78"}}`)
		listed("10.200.78.0/24", true)
		if err := h.StopAgent(); err != nil {
			t.Fatal(err)
		}
		p.segment.Etcdctl(t, "del", gone)
		h.NS.IP(t, "route add 10.99.0.0/16 via "+lab.SegmentIP+" proto static")
		h.NS.IP(t, "route add 10.200.79.0/24 via "+lab.SegmentIP+" proto static")
		h.NS.IP(t, "route add 10.200.78.0/24 via "+lab.SegmentIP+" proto 0xeb")
		p.c[0].NS.Ask(t, "tcp", p.c[1].At(80))
		h.StartAgent(t)
		listed("10.200.78.0/24", false)
		lab.Eventually(t, settled, func() error {
			routes := h.NS.IP(t, "route show")
			switch {
			case !strings.Contains(routes, "10.99.0.0/16"), !strings.Contains(routes, "10.200.79.0/24"):
				return fmt.Errorf("a foreign route is gone: %s", routes)
			case strings.Contains(routes, "10.200.78.0/24"):
				return fmt.Errorf("an old route of ours is left: %s", routes)
			}
			return nil
		})
		world := p.segment.Router.Capture(t, "seg0")
		p.c[0].NS.Unanswered(t, "udp", "10.200.78.5:80")
		world.None(t, "a packet to the host that is gone", func(q lab.Packet) bool {
			return q.IP != nil && (q.IP.DstIP.String() == "10.200.78.5" || q.IP.DstIP.String() == "198.18.0.78")
		})
		h.NS.IP(t, "route delete 10.99.0.0/16")
		h.NS.IP(t, "route delete 10.200.79.0/24")
		p.c[0].NS.Ask(t, "tcp", p.c[1].At(80))
	})
}

// portTaken: overlay D8: another VXLAN device on the port is named, and when it is gone the tunnel is there.
func (p *pair) portTaken(t *testing.T) {
	t.Run("port taken", func(t *testing.T) {
		h := p.hosts[0]
		device := p.device(t)
		if err := h.StopAgent(); err != nil {
			t.Fatal(err)
		}
		h.NS.IP(t, "link delete "+device)
		h.NS.IP(t, "link add flannel.1 type vxlan id 1 dstport 8472 dev "+lab.SegmentDevice)
		h.NS.IP(t, "link set flannel.1 up")
		h.StartAgent(t)
		lab.Eventually(t, settled, func() error {
			if s := h.Instance.Run(t, "status"); !strings.Contains(s, "flannel.1") {
				return fmt.Errorf("status does not name it: %s", s)
			}
			return nil
		})
		h.NS.IP(t, "link delete flannel.1")
		lab.Eventually(t, settled, func() error {
			_, err := p.c[0].NS.TryAsk("tcp", p.c[1].At(80), lab.Within(time.Second))
			return err
		})
	})
}
