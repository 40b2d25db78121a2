package lab

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Inject sends a frame out of a device as it is, past the namespace's own stack.
func (n *Netns) Inject(t testing.TB, dev string, frame []byte) {
	t.Helper()
	err := n.Do(func() error {
		fd, err := packetSocket(dev, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Send(fd, frame, 0)
	})
	if err != nil {
		t.Fatalf("%s: inject on %s: %v", n.Name, dev, err)
	}
}

// InjectInOrder sends frames one after the other from one CPU: a device's frames from several CPUs may overtake each other.
func (n *Netns) InjectInOrder(t testing.TB, dev string, frames ...[]byte) {
	t.Helper()
	err := n.Do(func() error { // on a thread of its own
		var all, one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &all); err != nil {
			return err
		}
		for cpu := range len(all) * 64 {
			if all.IsSet(cpu) {
				one.Set(cpu)
				break
			}
		}
		fd, err := packetSocket(dev, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return err
		}
		for _, f := range frames {
			err = errors.Join(err, unix.Send(fd, f, 0))
		}
		return errors.Join(err, unix.SchedSetaffinity(0, &all))
	})
	if err != nil {
		t.Fatalf("%s: inject on %s: %v", n.Name, dev, err)
	}
}

// Frame builds a frame with right lengths and checksums. Transport layers know their network layer by SetNetworkLayerForChecksum.
func Frame(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatalf("build frame: %v", err)
	}
	return buf.Bytes()
}

// Way is where a built packet comes from and goes to.
type Way struct {
	SrcMAC, DstMAC net.HardwareAddr
	Src, Dst       netip.AddrPort
	TTL            uint8 // 64 where it is 0
}

func (w Way) lower(proto layers.IPProtocol) (*layers.Ethernet, *layers.IPv4) {
	ttl := w.TTL
	if ttl == 0 {
		ttl = 64
	}
	return &layers.Ethernet{SrcMAC: w.SrcMAC, DstMAC: w.DstMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: ttl, Id: 1, Protocol: proto, SrcIP: w.Src.Addr().AsSlice(), DstIP: w.Dst.Addr().AsSlice()}
}

// UDP builds a datagram with its checksum.
func (w Way) UDP(t testing.TB, payload []byte) []byte {
	t.Helper()
	eth, ip := w.lower(layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(w.Src.Port()), DstPort: layers.UDPPort(w.Dst.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return Frame(t, eth, ip, udp, gopacket.Payload(payload))
}

// UDPWithout builds a datagram without a checksum, as RFC 768 allows.
func (w Way) UDPWithout(t testing.TB, payload []byte) []byte {
	t.Helper()
	b := w.UDP(t, payload)
	b[14+20+6], b[14+20+7] = 0, 0
	return b
}

// TCP builds a segment; set fills in flags and numbers.
func (w Way) TCP(t testing.TB, set func(*layers.TCP)) []byte {
	t.Helper()
	eth, ip := w.lower(layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: layers.TCPPort(w.Src.Port()), DstPort: layers.TCPPort(w.Dst.Port()), Window: 64240}
	set(tcp)
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return Frame(t, eth, ip, tcp)
}

// Echo builds an ICMP echo request.
func (w Way) Echo(t testing.TB, id, seq uint16, payload []byte) []byte {
	t.Helper()
	eth, ip := w.lower(layers.IPProtocolICMPv4)
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}
	return Frame(t, eth, ip, icmp, gopacket.Payload(payload))
}
