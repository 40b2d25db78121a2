package packet

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// BenchmarkCountingPath compares the programs as they are with the same programs that count nothing, turn by turn, on the whole way of a
// question and its answer: from a socket in one namespace to a socket in another and back, all on one processor.
func BenchmarkCountingPath(b *testing.B) {
	const turns, warm, asks = 151, 20, 300
	both := [2]*datapath{load(b, options{}), load(b, options{vars: map[string]any{"count_packets": uint8(0)}})}
	g := newGround(b, both[0].w)
	for _, d := range both {
		d.w = g.w
		d.sync(b, g.state())
	}
	g.attach(b, both[0])
	for _, way := range []struct {
		path             string
		client, server   *netns.NsHandle
		from, to, serves string
	}{
		{"local", &g.c1, &g.c2, "172.17.0.20:5000", "172.17.0.21:6000", "172.17.0.21:6000"},
		{"out", &g.c1, &g.remote, "172.17.0.20:5000", "10.77.0.2:7000", "10.77.0.2:7000"},
		{"in", &g.remote, &g.c1, "10.77.0.2:5001", "10.77.0.1:8080", "172.17.0.20:80"},
	} {
		b.Run(way.path, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			client := g.socket(b, *way.client, way.from, way.to)
			server := g.socket(b, *way.server, way.serves, "")
			before, asked := both[0].counters(b)["br0 "+way.path], 0
			var cost costs
			for b.Loop() {
				for range turns {
					cost.turn(func(i int) time.Duration {
						g.attach(b, both[i])
						ask(b, client, server, warm)
						start := threadTime(b)
						ask(b, client, server, asks)
						return threadTime(b) - start
					})
				}
				asked += turns * (warm + asks)
			}
			if got := both[0].counters(b)["br0 "+way.path] - before; got != uint64(2*asked) {
				b.Errorf("%d packets went by path %s, want %d", got, way.path, 2*asked)
			}
			cost.report(b, 2*asks)
		})
	}
}

// ground is two containers on br0 and a remote machine behind an uplink, each a namespace with sockets.
type ground struct {
	w              *world
	c1, c2, remote netns.NsHandle
	links          map[hook]link.Link
}

func newGround(tb testing.TB, w *world) *ground {
	tb.Helper()
	g := &ground{w: w, links: map[hook]link.Link{}}
	g.c1 = g.add(tb, "e1", device{mac: mac("02:00:00:00:17:14"), addr: "172.17.0.20", bridge: "br0"}, "172.17.0.20/16")
	g.c2 = g.add(tb, "e2", device{mac: mac("02:00:00:00:17:15"), addr: "172.17.0.21", bridge: "br0"}, "172.17.0.21/16")
	g.remote = g.add(tb, "up9", device{mac: mac("02:00:00:00:09:01"), addr: "10.77.0.1"}, "10.77.0.2/24")
	for _, n := range []struct {
		ns      netns.NsHandle
		dev, ip string
		mac     net.HardwareAddr
	}{
		{g.c1, "eth0", "172.17.0.21", w.devices["e2"].containerMAC()},
		{g.c2, "eth0", "172.17.0.20", w.devices["e1"].containerMAC()},
		{g.c1, "eth0", "172.17.0.1", w.devices["br0"].mac},
		{g.remote, "eth0", "10.77.0.1", w.devices["up9"].mac},
		{netns.None(), "up9", "10.77.0.2", w.devices["up9"].containerMAC()},
	} {
		neighbour(tb, n.ns, n.dev, n.ip, n.mac)
	}
	return g
}

// add makes a veth pair with an end in a new namespace.
func (g *ground) add(tb testing.TB, name string, d device, addr string) netns.NsHandle {
	tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(tb, err)
	defer home.Close()
	ns, err := netns.New()
	must(tb, err)
	tb.Cleanup(func() { ns.Close() })
	must(tb, netns.Set(home))

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = name, d.mac, 1500
	if d.bridge != "" {
		attrs.MasterIndex = int(g.w.devices[d.bridge].index)
	}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: d.containerMAC(), PeerNamespace: netlink.NsFd(ns)}
	must(tb, netlink.LinkAdd(veth))
	tb.Cleanup(func() { netlink.LinkDel(veth) })
	must(tb, netlink.LinkSetUp(veth))
	if d.bridge == "" {
		must(tb, netlink.AddrAdd(veth, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(d.addr), Mask: net.CIDRMask(24, 32)}}))
	}
	inside, err := netlink.NewHandleAt(ns)
	must(tb, err)
	defer inside.Close()
	for _, dev := range []string{"lo", "eth0"} {
		l, err := inside.LinkByName(dev)
		must(tb, err)
		must(tb, inside.LinkSetUp(l))
	}
	l, err := inside.LinkByName("eth0")
	must(tb, err)
	a, err := netlink.ParseAddr(addr)
	must(tb, err)
	must(tb, inside.AddrAdd(l, a))
	if d.bridge != "" {
		must(tb, inside.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(g.w.devices[d.bridge].addr)}))
	}
	d.index = uint32(veth.Attrs().Index)
	if d.index == 0 {
		l, err := netlink.LinkByName(name)
		must(tb, err)
		d.index = uint32(l.Attrs().Index)
	}
	g.w.devices[name] = d
	g.w.names[d.index] = name
	return ns
}

// neighbour enters an address for good, so that nothing is asked for while time is taken.
func neighbour(tb testing.TB, ns netns.NsHandle, dev, ip string, mac net.HardwareAddr) {
	tb.Helper()
	h, err := netlink.NewHandleAt(ns)
	must(tb, err)
	defer h.Close()
	l, err := h.LinkByName(dev)
	must(tb, err)
	must(tb, h.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: mac}))
}

// state is the world's with one published port.
func (g *ground) state() state.State {
	s := g.w.state()
	publish(&s, "udp", "10.77.0.1:8080", "172.17.0.20:80")
	return s
}

// attach puts a datapath's programs on the devices, in place of the other's.
func (g *ground) attach(tb testing.TB, d *datapath) {
	tb.Helper()
	for _, h := range []hook{fromContainer("e1"), fromContainer("e2"), fromUplink("up9")} {
		prog := d.coll.Programs[h.prog]
		if l := g.links[h]; l != nil {
			must(tb, l.Update(prog))
			continue
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: int(g.w.devices[h.dev].index), Program: prog, Attach: ebpf.AttachTCXIngress})
		must(tb, err)
		tb.Cleanup(func() { l.Close() })
		g.links[h] = l
	}
}

// socket opens a UDP socket in a namespace. Without a peer it takes datagrams from anybody.
func (g *ground) socket(tb testing.TB, ns netns.NsHandle, at, peer string) int {
	tb.Helper()
	home, err := netns.Get()
	must(tb, err)
	defer home.Close()
	must(tb, netns.Set(ns))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(tb, netns.Set(home))
	must(tb, err)
	tb.Cleanup(func() { unix.Close(fd) })
	// Nothing is sent by another thread, so that what does not come now never comes.
	must(tb, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	must(tb, unix.Bind(fd, sockaddr(at)))
	if peer != "" {
		must(tb, unix.Connect(fd, sockaddr(peer)))
	}
	return fd
}

func sockaddr(s string) *unix.SockaddrInet4 {
	a := netip.MustParseAddrPort(s)
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// ask sends so many questions, each after the answer to the last.
func ask(tb testing.TB, client, server, n int) {
	buf := make([]byte, 64)
	for i := range n {
		if _, err := unix.Write(client, buf[:32]); err != nil {
			tb.Fatal(err)
		}
		size, from, err := unix.Recvfrom(server, buf, 0)
		if err != nil {
			tb.Fatal(fmt.Errorf("question %d: %w", i, err))
		}
		if err := unix.Sendto(server, buf[:size], 0, from); err != nil {
			tb.Fatal(err)
		}
		if _, err := unix.Read(client, buf); err != nil {
			tb.Fatal(fmt.Errorf("answer %d: %w", i, err))
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
