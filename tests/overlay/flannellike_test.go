package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// flannelLike is what flanneld's udp backend is to the others: a process that reads packets out of datagrams and writes them to a TUN device, and
// the other way round.
type flannelLike struct {
	host   *lab.Member
	subnet netip.Prefix

	mu     sync.Mutex
	read   int
	broken error // the first datagram that is not one packet as a wire takes it
}

// join adds such a host, with a record in etcd as flannel's, to a segment. It has one peer.
func (g *flannelLike) join(t *testing.T, s *lab.Segment, peer string) {
	t.Helper()
	g.host = s.Add(t)
	g.subnet = netip.MustParsePrefix("10.200.77.0/24")
	ns := g.host.NS
	tun := g.open(t)
	ns.IP(t, "link set flannel0 mtu 1472 up")
	ns.IP(t, "addr add "+g.at()+"/32 dev flannel0")
	ns.IP(t, "route add 10.200.0.0/16 dev flannel0")
	wire := ns.ListenUDP(t, g.host.IP+":8285")
	to := net.UDPAddrFromAddrPort(lab.AddrPort(peer, 8285))
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			_, _ = wire.WriteToUDP(buf[:n], to) // what does not go is lost, as on a wire
		}
	}()
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := wire.Read(buf)
			if err != nil {
				return
			}
			g.check(buf[:n])
			_, _ = tun.Write(buf[:n])
		}
	}()
	s.Etcdctl(t, "put", "/coreos.com/network/subnets/"+strings.ReplaceAll(g.subnet.String(), "/", "-"), fmt.Sprintf(`{"PublicIP":%q}`, g.host.IP))
}

// at is the host's address among the containers.
func (g *flannelLike) at() string { return g.subnet.Addr().Next().String() }

// open makes the TUN device of the host.
func (g *flannelLike) open(t *testing.T) *os.File {
	t.Helper()
	var fd int
	err := g.host.NS.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("flannel0")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		t.Fatalf("make a TUN device: %v", err)
	}
	tun := os.NewFile(uintptr(fd), "tun")
	t.Cleanup(func() { tun.Close() })
	return tun
}

// check looks at what a datagram holds.
func (g *flannelLike) check(b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.read++
	in := lab.Decode(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, b...))
	err := in.Checksums()
	switch {
	case err == nil && int(in.IP.Length) != len(b):
		err = fmt.Errorf("a packet of %d bytes is in a datagram with %d", in.IP.Length, len(b))
	case len(b) > 1472:
		err = errors.Join(err, fmt.Errorf("a datagram holds %d bytes", len(b)))
	}
	if g.broken == nil {
		g.broken = err
	}
}

// J-1, D-9: a host of flannel's has its datagrams read by a process, so that each holds one packet with whole checksums, no longer than the wire
// takes; beside it hosts of ours send each other whatever the kernel sends as one.
func TestDatagramsMixed(t *testing.T) {
	p := newPair(t, lab.Native, udp)
	var other flannelLike
	other.join(t, p.segment, p.hosts[0].IP)
	awaitPeer(t, p.hosts[0], other.subnet, other.host.IP)
	other.host.NS.Serve(t, "flannel", lab.At(other.at(), 7000))

	client := p.c[0].NS.Dial(t, "tcp", lab.At(other.at(), 7000))
	const size = 4 << 20
	if got, err := client.Sink(size, settled); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("%d bytes to the host of flannel's: %q %v", size, got, err)
	}
	if got, err := client.Source(size, settled); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("%d bytes from the host of flannel's: %q %v", size, got, err)
	}
	for _, proto := range []string{"tcp", "udp"} {
		p.c[0].NS.Ask(t, proto, lab.At(other.at(), 7000))
		other.host.NS.Ask(t, proto, p.c[0].At(80))
	}
	p.c[0].NS.Ask(t, "udp", lab.At(other.at(), 7000), lab.Size(4000))
	wire := p.hosts[1].NS.Capture(t, lab.SegmentDevice)
	p.exchangeBulk(t, size)
	if length, _ := asDatagrams.longest(t, wire, p.hosts[0].IP); length <= 1500 {
		t.Errorf("to a host of ours the longest packet has %d bytes", length)
	}

	other.mu.Lock()
	defer other.mu.Unlock()
	if other.broken != nil || other.read < size/1472 {
		t.Errorf("of %d datagrams: %v", other.read, other.broken)
	}
}
