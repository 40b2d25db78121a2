package overlay

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// inner gives the frames that a capture saw in the tunnel towards a host.
func inner(c *lab.Capture, host string) (frames []lab.Packet) {
	const header = 8 // VXLAN's own (RFC 7348, section 5)
	for _, o := range outer(c) {
		if o.IP.DstIP.String() == host && len(o.UDP.Payload) > header {
			frames = append(frames, lab.Decode(o.UDP.Payload[header:]))
		}
	}
	return frames
}

// checksums sends what is hard to sum up across two hosts whose devices have no offload for tunnels, nor any other.
func checksums(t *testing.T, p *pair) {
	for _, h := range p.hosts {
		h.NS.Offload(t, lab.SegmentDevice, false)
	}
	for _, c := range p.c {
		c.NS.Offload(t, "eth0", false)
	}
	wire := p.segment.Router.Capture(t, "h1")

	// D-9: the tunnel's device leaves the inner checksum to a device that cannot do it, so it has to be right before.
	p.c[0].NS.Offload(t, "eth0", true)
	client := p.c[0].NS.Dial(t, "tcp", p.c[1].At(80))
	client.Ask(t)
	if got, err := client.Sink(300_000, settled); err != nil || got != lab.BulkDigest(300_000) {
		t.Errorf("300,000 bytes across: %v", err)
	}
	p.c[0].NS.Ask(t, "udp", p.c[1].At(80))
	p.c[0].NS.Offload(t, "eth0", false)
	var tcp int
	for _, f := range inner(wire, p.hosts[1].IP) {
		if f.TCP != nil {
			tcp++
		}
		if err := f.Checksums(); err != nil {
			t.Fatalf("inside of the tunnel: %v: %s", err, f)
		}
	}
	if tcp < 100 {
		t.Errorf("%d TCP packets are in the tunnel", tcp)
	}

	// C-9: a datagram that does not fit is cut up before it is wrapped, and no outer packet is.
	before := len(outer(wire))
	for i := range p.c {
		if answer := p.c[i].NS.Ask(t, "udp", p.c[1-i].At(80), lab.Size(4000)); answer.Seen().Addr() != p.c[i].IP {
			t.Errorf("seen as %s", answer.Seen())
		}
	}
	var pieces int
	for _, o := range outer(wire)[before:] {
		if o.IP.Flags&layers.IPv4MoreFragments != 0 || o.IP.FragOffset != 0 {
			t.Errorf("an outer packet is in pieces: %s", o)
		}
		if f := lab.Decode(o.UDP.Payload[8:]); f.IP != nil && f.IP.Flags&layers.IPv4MoreFragments != 0 {
			pieces++
		}
	}
	if pieces != 4 { // two of each of the two datagrams; the answers are short
		t.Errorf("%d inner pieces that are not the last, want 4", pieces)
	}

	// D-5: datagrams that the sender's kernel cuts up late arrive one by one, whichever device does it.
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("D-5 offload %v", offload), func(t *testing.T) {
			if offload {
				p.c[0].NS.Offload(t, "eth0", true)
				p.hosts[0].NS.Offload(t, lab.SegmentDevice, true)
			}
			train(t, p)
		})
	}

	// D-11: an outer checksum may be there, and it may not.
	for _, none := range []int{0, 1} {
		seen := p.c[0].NS.Capture(t, "eth0")
		conn := p.hosts[1].NS.ListenUDP(t, ":0")
		control(t, conn, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, none) })
		to := net.UDPAddrFromAddrPort(lab.AddrPort(p.hosts[0].IP, 8472))
		if _, err := conn.WriteToUDP(wrap(t, 1, innerFrame(t, p.c[1].IP.String(), p.c[0].IP)), to); err != nil {
			t.Fatal(err)
		}
		seen.Find(t, fmt.Sprintf("packet from the tunnel (SO_NO_CHECK %d)", none), func(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 4242 })
	}
}

// train sends 20 datagrams with one call, and waits for each.
func train(t *testing.T, p *pair) {
	t.Helper()
	const size, count = 1200, 20
	sink := p.c[1].NS.ListenUDP(t, ":0")
	out := p.c[0].NS.ListenUDP(t, ":0")
	control(t, out, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	payload := make([]byte, size*count)
	for i := range payload {
		payload[i] = byte(i / size)
	}
	port := sink.LocalAddr().(*net.UDPAddr).Port
	if _, err := out.WriteToUDP(payload, net.UDPAddrFromAddrPort(lab.AddrPort(p.c[1].IP.String(), port))); err != nil {
		t.Fatal(err)
	}
	if err := sink.SetReadDeadline(time.Now().Add(settled)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2*size)
	for i := range count {
		n, from, err := sink.ReadFromUDPAddrPort(buf)
		if err != nil || n != size || buf[0] != byte(i) || buf[size-1] != byte(i) || from.Addr().Unmap() != p.c[0].IP {
			t.Fatalf("datagram %d: %d bytes of %d from %s: %v", i, n, buf[0], from, err)
		}
	}
}

// control runs fn on a socket's file descriptor.
func control(t *testing.T, conn syscall.Conn, fn func(fd int) error) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = fn(int(fd)) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
}
