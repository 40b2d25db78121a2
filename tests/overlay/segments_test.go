package overlay

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// wrapping is a way to send packets to another host.
type wrapping struct {
	name    string
	config  string // of the network
	on      func(lab.Packet) bool
	headers int // how many bytes stand before the packet, from the outer IP header on
}

var (
	asVXLAN     = wrapping{"VXLAN", vxlan, inVXLAN, 50}
	asDatagrams = wrapping{"datagrams", udp, datagrams, 28}
)

// stream is how much is sent for a look at the packets on the wire.
const stream = 16 << 20

// exchangeBulk sends a stream from the first host's container to the second's, and one back.
func (p *pair) exchangeBulk(t *testing.T, size int64) {
	t.Helper()
	client := p.c[0].NS.Dial(t, "tcp", p.c[1].At(80))
	if got, err := client.Sink(size, settled); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("overlay D5: %d bytes to the other host: %q %v", size, got, err)
	}
	if got, err := client.Source(size, settled); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("overlay D5: %d bytes from the other host: %q %v", size, got, err)
	}
}

// longest gives the length of the longest packet with a TCP connection's in it, of those from a host, and how many there are. Their lengths have to
// agree, and their checksums be right where none was left to hardware.
func (w wrapping) longest(t *testing.T, c *lab.Capture, host string) (length, packets int) {
	t.Helper()
	for _, o := range c.All(w.on) {
		if o.IP.SrcIP.String() != host {
			continue
		}
		err := w.whole(o.Data[14:14+min(int(o.IP.Length), len(o.Data)-14)], o.Partial)
		if err != nil {
			t.Fatalf("D-5: %v: %s", err, o)
		}
		if in := lab.Decode(append(o.Data[:14:14], o.Data[14+w.headers:]...)); in.TCP != nil {
			packets++
			length = max(length, int(o.IP.Length))
		}
	}
	return length, packets
}

// whole tells what is wrong with a packet in another, given from the outer IP header on: its lengths have to agree with those of the packet that it
// carries, and its checksums, and that packet's, have to be right. With partial the inner packet's layer 4 checksum is left to hardware.
func (w wrapping) whole(b []byte, partial bool) error {
	if len(b) < w.headers+20 {
		return fmt.Errorf("%d bytes hold no packet", len(b))
	}
	frame := func(ip []byte) lab.Packet {
		return lab.Decode(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, ip...))
	}
	o := frame(b)
	if o.UDP == nil || int(o.IP.Length) != len(b) || int(o.UDP.Length) != len(b)-20 {
		return fmt.Errorf("the headers of %d bytes say another length", len(b))
	}
	if err := o.Checksums(); err != nil {
		return fmt.Errorf("outside: %w", err)
	}
	in := frame(b[w.headers:])
	if in.IP == nil || int(in.IP.Length) != len(b)-w.headers {
		return fmt.Errorf("the packet in %d bytes says another length", len(b))
	}
	in.Partial = partial
	if err := in.Checksums(); err != nil {
		return fmt.Errorf("inside: %w", err)
	}
	return nil
}

// overlay D5, D-5: a TCP stream travels between hosts with many segments in one, which whoever cannot take them on the way cuts up as they have to be;
// whoever does, each byte arrives.
func TestSegments(t *testing.T) {
	for _, w := range []wrapping{asVXLAN, asDatagrams} {
		t.Run(w.name, w.segments)
	}
}

func (w wrapping) segments(t *testing.T) {
	p := newPair(t, lab.Native, w.config, "--metrics-addr", "127.0.0.1:9979")
	from := p.hosts[0]

	// L-1, L-3: who looks sees the packet, and not the datagram around it.
	t.Run("seen", func(t *testing.T) {
		p.flowsAndCounters(t, p.c[1])
		var got api.Trace
		from.JSON(t, &got, "trace", "--from", p.c[0].Name, "--to", p.c[1].At(80))
		if got.Verdict != "forward" || got.Path != "overlay" || got.Peer != p.subnets[1].String() || got.NextHop != p.hosts[1].IP || got.Translated != got.Original {
			t.Errorf("trace says %+v", got)
		}
	})
	t.Run("nobody cuts them", func(t *testing.T) {
		wire := p.hosts[1].NS.Capture(t, lab.SegmentDevice)
		p.exchangeBulk(t, stream)
		for _, h := range p.hosts {
			if length, packets := w.longest(t, wire, h.IP); length <= 1500 {
				t.Errorf("of %d packets from %s the longest has %d bytes", packets, h.IP, length)
			}
		}
	})
	t.Run("the sender cuts them", func(t *testing.T) {
		for _, h := range p.hosts {
			h.NS.Offload(t, lab.SegmentDevice, false)
		}
		wire := p.segment.Router.Capture(t, "h1")
		p.exchangeBulk(t, stream)
		for _, h := range p.hosts {
			if length, packets := w.longest(t, wire, h.IP); length != 1500 || packets < stream/1500 {
				t.Errorf("of %d packets from %s the longest has %d bytes", packets, h.IP, length)
			}
		}
	})
	t.Run("somebody between them cuts them", func(t *testing.T) {
		for _, port := range []string{"h1", "h2"} {
			p.segment.Router.Offload(t, port, false)
		}
		before := from.NS.Capture(t, lab.SegmentDevice)
		after := p.hosts[1].NS.Capture(t, lab.SegmentDevice)
		p.exchangeBulk(t, stream)
		if length, packets := w.longest(t, before, from.IP); length <= 1500 {
			t.Errorf("of %d packets the longest leaves with %d bytes", packets, length)
		}
		if length, packets := w.longest(t, after, from.IP); length != 1500 || packets < stream/1500 {
			t.Errorf("of %d packets the longest arrives with %d bytes", packets, length)
		}
	})
	// D-5: what a UDP socket sends as one is cut up too, and one host's containers may send with a checksum that is left to nobody.
	t.Run("a UDP socket's", func(t *testing.T) { train(t, p) })
	t.Run("without offload in the containers", func(t *testing.T) {
		for _, c := range p.c {
			c.NS.Offload(t, "eth0", false)
		}
		p.exchangeBulk(t, stream)
		train(t, p)
		p.c[0].NS.Ask(t, "udp", p.c[1].At(80), lab.Size(4000)) // J-4
	})
	t.Run("1 GB", func(t *testing.T) {
		const size, patience = 1 << 30, 3 * time.Minute
		if got, err := p.c[0].NS.Dial(t, "tcp", p.c[1].At(80)).Source(size, patience); err != nil || got != lab.BulkDigest(size) {
			t.Errorf("overlay D5: %q %v", got, err)
		}
	})
	// L-1: a packet of many segments is counted as what it is on a wire.
	t.Run("counted", func(t *testing.T) { p.countSegments(t) })
}

// countSegments compares what is counted of a stream under the flow with what it takes in segments of the container's MTU.
func (p *pair) countSegments(t *testing.T) {
	const size, least, most = stream, stream / 1432, stream/1432 + 2000 // those that are not full, and acknowledgements
	counted := func() (n [2]float64) {
		return [2]float64{
			p.hosts[0].Scrape(t).Sum("ebpfnet_peer_transmit_packets_total"), p.hosts[1].Scrape(t).Sum("ebpfnet_peer_receive_packets_total"),
		}
	}
	before := counted()
	client := p.c[0].NS.Dial(t, "tcp", p.c[1].At(80))
	if got, err := client.Sink(size, settled); err != nil || got != lab.BulkDigest(size) {
		t.Fatalf("%q %v", got, err)
	}
	for i, now := range counted() {
		if more := now - before[i]; more < least || more > most {
			t.Errorf("%s counts %g packets of the other host, want %d to %d", p.hosts[i].IP, more, least, most)
		}
	}
	port := client.Conn().LocalAddr().(*net.TCPAddr).AddrPort().Port()
	for i, h := range p.hosts {
		lab.Eventually(t, lab.Patience, func() error {
			flows := h.Flows(t, "--container", p.c[i].Name, "--proto", "tcp")
			for _, f := range flows {
				if f.Original.SourcePort != port {
					continue
				}
				if f.Packets < least || f.Packets > most {
					return fmt.Errorf("%s counts %d packets, want %d to %d", h.IP, f.Packets, least, most)
				}
				return nil
			}
			return fmt.Errorf("%s does not show the flow: %+v", h.IP, flows)
		})
	}
}

// overlay D5: as TestSegments, with a router between the hosts, whose bridge cuts up what it forwards.
func TestSegmentsThroughRouter(t *testing.T) {
	for _, w := range []wrapping{asVXLAN, asDatagrams} {
		t.Run(w.name, w.throughRouter)
	}
}

func (w wrapping) throughRouter(t *testing.T) {
	p := &pair{segment: suite.NewSegment(t, lab.Native)}
	p.segment.StartEtcd(t)
	p.segment.Etcdctl(t, "put", lab.NetworkKey, w.config)
	p.hosts = [2]*lab.Member{p.segment.Add(t), p.segment.AddBehind(t)}
	for i, h := range p.hosts {
		h.Start(t)
		p.subnets[i] = netip.MustParsePrefix(h.Subnet(t)["FLANNEL_SUBNET"]).Masked()
	}
	p.complete(t)
	cross := func(t *testing.T, mtu int) {
		before := p.hosts[0].NS.Capture(t, lab.SegmentDevice)
		after := p.hosts[1].NS.Capture(t, lab.SegmentDevice)
		p.exchangeBulk(t, stream)
		if length, packets := w.longest(t, before, p.hosts[0].IP); length <= 1500 {
			t.Errorf("of %d packets the longest leaves with %d bytes", packets, length)
		}
		if length, packets := w.longest(t, after, p.hosts[0].IP); length != mtu || packets < stream/mtu {
			t.Errorf("of %d packets the longest arrives with %d bytes", packets, length)
		}
	}
	t.Run("cuts them", func(t *testing.T) { cross(t, 1500) })
	if w.name == asVXLAN.name {
		return // it may be cut up on the way, and nobody learns of it
	}
	// J-3, overlay D4: the router refuses what is too big for the second segment, and the containers learn of it.
	t.Run("has a smaller segment behind it", func(t *testing.T) {
		p.segment.Router.IP(t, "link set seg1 mtu 1400")
		cross(t, 1400)
	})
}
