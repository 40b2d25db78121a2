package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// vnetHeader is struct virtio_net_hdr (include/uapi/linux/virtio_net.h), in the machine's order: how a device says what it has left to
// others of a packet.
type vnetHeader struct {
	Flags, GSOType                         uint8
	HdrLen, GSOSize, CsumStart, CsumOffset uint16
}

const (
	vnetNeedsCsum = 1
	vnetGSOTCPv4  = 1
	vnetSize      = 10
)

// TestDevices sends frames through a program on a real device, because BPF_PROG_TEST_RUN makes no packet like these: a container's tap
// device in, the uplink out, and a look at the wire behind it.
func TestDevices(t *testing.T) {
	const mtu = 9000
	d := load(t, options{programs: []string{"from_container", "to_uplink", "clock"}})
	tap, in := openTap(t, "tap9")
	up, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	wireEnd, err := netlink.LinkByName("up0p")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{up, wireEnd} {
		if err := netlink.LinkSetMTU(l, mtu); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.LinkSetMTU(l, 1500) })
	}
	far := mac("02:00:00:00:00:fe")
	neighbour := &netlink.Neigh{
		LinkIndex: up.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("198.51.100.254"), HardwareAddr: far,
	}
	if err := netlink.NeighSet(neighbour); err != nil {
		t.Fatal(err)
	}
	d.change(t, func(s *state.State) {
		index := uint32(tap.Attrs().Index)
		bridge := d.w.devices["br0"].index
		s.Veths[index] = bpf.Veth{Bridge: bridge, Id: 1177, Slot: 177}
		s.Endpoints[addrKey("172.17.0.7")] = bpf.Endpoint{Id: 1177, Ifindex: index, Bridge: bridge, Slot: 177, Mtu: mtu}
		u := s.Uplinks[uint32(up.Attrs().Index)]
		u.Mtu = mtu
		s.Uplinks[uint32(up.Attrs().Index)] = u
	})
	attachIngress(t, tap, d.coll.Programs["from_container"].FD())
	sniffer, wireSocket := listenPacket(t, tap.Attrs().Index), listenPacket(t, wireEnd.Attrs().Index)

	big, ack := make([]byte, 6000), tcp("172.17.0.7:40000", "192.0.2.10:80", "A")
	for i := range big {
		big[i] = byte(i)
	}
	for _, c := range []struct {
		name   string
		in     frame
		src    string
		header vnetHeader
	}{
		{"D-8 plain", ack.data(big[:100]), "198.51.100.1:40000", vnetHeader{}},
		{"D-7 tcp, all but the link layer in pages", ack.data(big), "198.51.100.1:40000", vnetHeader{HdrLen: 14}},
		{"D-7 udp, all but the link layer in pages", udp("172.17.0.7:40000", "192.0.2.10:53").data(big), "198.51.100.1:40000", vnetHeader{HdrLen: 14}},
		{"D-7 udp, the ip header cut by a page", udp("172.17.0.7:40001", "192.0.2.10:53").data(big), "198.51.100.1:40001", vnetHeader{HdrLen: 20}},
		{"D-7 ip options in pages", ack.data(big).ipOptions(make([]byte, 40)), "198.51.100.1:40000", vnetHeader{HdrLen: 34}},
		{"D-7 icmp in pages", echo("172.17.0.7", "192.0.2.10", 7).data(big), "198.51.100.1", vnetHeader{HdrLen: 14}},
		{"D-2 tcp, checksum left to the device", ack.data(big[:101]), "198.51.100.1:40000", vnetHeader{Flags: vnetNeedsCsum, CsumStart: 34, CsumOffset: 16}},
		{
			"D-2 udp, checksum left to the device", udp("172.17.0.7:40000", "192.0.2.10:53").data(big[:101]), "198.51.100.1:40000",
			vnetHeader{Flags: vnetNeedsCsum, CsumStart: 34, CsumOffset: 6},
		},
		{
			"D-4 D-2 held together by offload", ack.data(append(big, big...)), "198.51.100.1:40000",
			vnetHeader{Flags: vnetNeedsCsum, GSOType: vnetGSOTCPv4, HdrLen: 54, GSOSize: 1400, CsumStart: 34, CsumOffset: 16},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.in.macs(mac("0a:00:00:00:17:07"), d.w.devices["br0"].mac)
			want := c.in.from(c.src).withTTL(63).macs(d.w.devices["up0"].mac, far).bytes()
			data := f.bytes()
			if c.header.Flags&vnetNeedsCsum != 0 {
				leaveChecksum(data, int(c.header.CsumStart), int(c.header.CsumOffset))
			}
			raw, err := binary.Append(nil, binary.NativeEndian, c.header)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(append(raw, data...)); err != nil {
				t.Fatalf("write to tap: %v", err)
			}
			header, got := receive(t, wireSocket, want[atSource:atSource+8])
			if header.GSOSize != c.header.GSOSize {
				t.Errorf("segments have %d bytes, want %d", header.GSOSize, c.header.GSOSize)
			}
			if header.Flags&vnetNeedsCsum != 0 {
				finishChecksum(got, int(header.CsumStart), int(header.CsumOffset))
			}
			if !bytes.Equal(want, got) {
				t.Errorf("the wire has\n%s\nwant\n%s", describe(got[:min(len(got), 120)]), describe(want[:min(len(want), 120)]))
			}
			// D-8: who listened on the device has the packet as it came.
			if _, seen := receive(t, sniffer, data[atSource:atSource+8]); !bytes.Equal(data, seen) {
				t.Errorf("a listener saw\n%s\nwant\n%s", describe(seen[:min(len(seen), 120)]), describe(data[:min(len(data), 120)]))
			}
		})
	}
}

// openTap makes a tap device whose frames carry a vnetHeader.
func openTap(tb testing.TB, name string) (netlink.Link, *os.File) {
	tb.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("open /dev/net/tun: %v", err)
	}
	f := os.NewFile(uintptr(fd), "tun")
	tb.Cleanup(func() { f.Close() })
	req, err := unix.NewIfreq(name)
	if err != nil {
		tb.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		tb.Fatalf("make tap %s: %v", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		tb.Fatalf("set tap %s up: %v", name, err)
	}
	return link, f
}

func attachIngress(tb testing.TB, link netlink.Link, prog int) {
	tb.Helper()
	index := link.Attrs().Index
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}, QdiscType: "clsact",
	}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		tb.Fatalf("add clsact: %v", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:           prog,
		DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		tb.Fatalf("add filter: %v", err)
	}
}

// listenPacket hears the frames of a device as tcpdump does, before any program on it, each with a vnetHeader.
func listenPacket(tb testing.TB, index int) int {
	tb.Helper()
	proto := uint16(bpf.Port(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	timeout := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}),
	)
	if err != nil {
		tb.Fatalf("listen on device %d: %v", index, err)
	}
	return fd
}

// receive waits for a frame between two addresses.
func receive(tb testing.TB, fd int, addrs []byte) (vnetHeader, []byte) {
	tb.Helper()
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			tb.Fatalf("wait for a frame: %v", err)
		}
		if n < vnetSize+atL4 || !bytes.Equal(buf[vnetSize+atSource:vnetSize+atSource+8], addrs) {
			continue
		}
		var h vnetHeader
		if err := binary.Read(bytes.NewReader(buf), binary.NativeEndian, &h); err != nil {
			tb.Fatal(err)
		}
		return h, buf[vnetSize:n]
	}
}

// leaveChecksum puts the sum over the pseudo-header where the checksum is, for the device to finish (CHECKSUM_PARTIAL).
func leaveChecksum(b []byte, start, offset int) {
	ip := b[atIP:]
	l4 := int(binary.BigEndian.Uint16(ip[2:])) - (start - atIP)
	binary.BigEndian.PutUint16(b[start+offset:], sum16(ip[12:20], uint32(ip[9])+uint32(l4)))
}

// finishChecksum does what the device was left to do.
func finishChecksum(b []byte, start, offset int) {
	sum := ^sum16(b[start:], 0)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[start+offset:], sum)
}
