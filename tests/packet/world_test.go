package packet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// The host that every test starts from. Remote machines are in 192.0.2.0/24 behind up0's gateway 198.51.100.254, but for its upper half,
// which is behind up1's gateway 203.0.113.254. lan0 is a device that is neither bridge nor uplink, with 10.9.0.0/16 behind it.
//
//	br0   172.17.0.1/16  c1 172.17.0.2, c2 172.17.0.3, s1 (no endpoint: a stranger)
//	br1   172.18.0.1/16  d1 172.18.0.2
//	br2   172.19.0.1/16  i1 172.19.0.2, internal
//	up0   198.51.100.1/24
//	up1   203.0.113.1/24
//	lan0  10.8.0.1/24
type world struct {
	devices map[string]device
	names   map[uint32]string // by ifindex
}

type device struct {
	index  uint32
	mac    net.HardwareAddr
	bridge string // of a container's veth
	addr   string // a container's, a bridge's or an uplink's
}

// blueprint is the world before its devices have ifindexes. A container's own MAC address is its veth's with 0a for 02.
func blueprint() map[string]device {
	return map[string]device{
		"br0":  {mac: mac("02:00:00:00:17:01"), addr: "172.17.0.1"},
		"br1":  {mac: mac("02:00:00:00:18:01"), addr: "172.18.0.1"},
		"br2":  {mac: mac("02:00:00:00:19:01"), addr: "172.19.0.1"},
		"c1":   {mac: mac("02:00:00:00:17:02"), addr: "172.17.0.2", bridge: "br0"},
		"c2":   {mac: mac("02:00:00:00:17:03"), addr: "172.17.0.3", bridge: "br0"},
		"s1":   {mac: mac("02:00:00:00:17:09"), addr: "172.17.0.9", bridge: "br0"},
		"d1":   {mac: mac("02:00:00:00:18:02"), addr: "172.18.0.2", bridge: "br1"},
		"i1":   {mac: mac("02:00:00:00:19:02"), addr: "172.19.0.2", bridge: "br2"},
		"up0":  {mac: mac("02:00:00:00:01:01"), addr: "198.51.100.1"},
		"up1":  {mac: mac("02:00:00:00:02:01"), addr: "203.0.113.1"},
		"lan0": {mac: mac("02:00:00:00:03:01"), addr: "10.8.0.1"},
	}
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// containerMAC gives the address of the container's end of a veth.
func (d device) containerMAC() net.HardwareAddr {
	return append(net.HardwareAddr{0x0a}, d.mac[1:]...)
}

// neighbourMAC is the link-layer address of whom the host knows on its uplinks.
var neighbourMAC = net.HardwareAddr{0x0c, 0, 0, 0, 0xfe, 1}

// newWorld makes the devices, addresses and routes, or finds those that another process of the fuzzer has made.
func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{devices: blueprint(), names: map[uint32]string{}}
	if _, err := netlink.LinkByName("lan0"); err != nil {
		if err := w.build(); err != nil {
			tb.Fatal(err)
		}
	}
	for name, d := range w.devices {
		l, err := netlink.LinkByName(name)
		if err != nil {
			tb.Fatalf("find device %s: %v", name, err)
		}
		d.index = uint32(l.Attrs().Index)
		w.devices[name] = d
		w.names[d.index] = name
	}
	return w
}

func (w *world) build() error {
	for _, f := range []string{"ip_forward", "conf/all/forwarding", "conf/default/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+f, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("turn forwarding on: %w", err)
		}
	}
	for _, name := range []string{"br0", "br1", "br2", "up0", "up1", "c1", "c2", "s1", "d1", "i1", "lan0"} {
		d := w.devices[name]
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = name, d.mac, 1500
		var link netlink.Link = &netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}
		if name[:2] == "br" {
			link = &netlink.Bridge{LinkAttrs: attrs}
		}
		if d.bridge != "" {
			br, err := netlink.LinkByName(d.bridge)
			if err != nil {
				return fmt.Errorf("find bridge %s: %w", d.bridge, err)
			}
			link.Attrs().MasterIndex = br.Attrs().Index
		}
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("add device %s: %w", name, err)
		}
		up := []string{name}
		if link.Type() == "veth" {
			up = append(up, name+"p")
		}
		for _, n := range up {
			l, err := netlink.LinkByName(n)
			if err == nil {
				err = netlink.LinkSetUp(l)
			}
			if err != nil {
				return fmt.Errorf("set device %s up: %w", n, err)
			}
		}
		if d.bridge != "" {
			continue
		}
		bits := 24
		if link.Type() == "bridge" {
			bits = 16
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(d.addr), Mask: net.CIDRMask(bits, 32)}}); err != nil {
			return fmt.Errorf("add address %s: %w", d.addr, err)
		}
	}
	for _, r := range [][2]string{{"0.0.0.0/0", "198.51.100.254"}, {"192.0.2.128/25", "203.0.113.254"}, {"10.9.0.0/16", "10.8.0.254"}} {
		_, dst, err := net.ParseCIDR(r[0])
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(r[1])})
		}
		if err != nil {
			return fmt.Errorf("add route to %s: %w", r[0], err)
		}
	}
	// up1's gateway is one that does not answer.
	for _, n := range [][2]string{{"up0", "198.51.100.254"}, {"up0", "198.51.100.7"}, {"lan0", "10.8.0.254"}} {
		l, err := netlink.LinkByName(n[0])
		if err == nil {
			err = netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(n[1]), HardwareAddr: neighbourMAC})
		}
		if err != nil {
			return fmt.Errorf("add neighbour %s: %w", n[1], err)
		}
	}
	_, dst, _ := net.ParseCIDR("192.0.2.96/29")
	// The second way to everywhere, for answers to what came in by up1.
	second := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: net.ParseIP("203.0.113.254"), Priority: 200}
	if err := netlink.RouteAdd(second); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add second default route: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add unreachable route: %w", err)
	}
	return nil
}

// state gives the maps' content for the world as it is, in native mode, with nothing published. Of the
// container 172.17.0.2 the slot is 172 and the id 1172; a bridge's slot is the last digit of its name.
func (w *world) state() maps.State {
	s := maps.State{
		Endpoints: map[bpf.AddrKey]bpf.Endpoint{},
		Bridges:   map[uint32]bpf.Bridge{},
		Veths:     map[uint32]bpf.Veth{},
		Uplinks:   map[uint32]bpf.Uplink{},
		HostAddrs: map[bpf.AddrKey]bpf.HostAddr{addrKey("127.0.0.1"): {Ifindex: 1}},
		Subnets:   map[bpf.PrefixKey]bpf.Subnet{},
		Publish:   map[bpf.PublishKey]bpf.Publish{},
	}
	for name, d := range w.devices {
		switch {
		case name[:2] == "br":
			flags := bpf.DatapathBridgeFlagBRIDGE_MASQUERADE | bpf.DatapathBridgeFlagBRIDGE_ICC
			if name == "br2" {
				flags |= bpf.DatapathBridgeFlagBRIDGE_INTERNAL
			}
			s.Bridges[d.index] = bpf.Bridge{Addr: addr(d.addr), Flags: flags, Slot: uint16(name[2] - '0'), Mac: [6]byte(d.mac), Mtu: 1500}
			s.Subnets[bpf.PrefixKey{Prefixlen: 16, Addr: addr(netip.MustParsePrefix(d.addr + "/16").Masked().Addr().String())}] = bpf.Subnet{Bridge: d.index}
		case name == "s1":
			s.Veths[d.index] = bpf.Veth{Bridge: w.devices[d.bridge].index}
			continue
		case d.bridge != "":
			w.addEndpoint(&s, name, d.addr)
			continue
		case name[:2] == "up":
			u := bpf.Uplink{Mtu: 1500, Naddrs: 1}
			u.Addrs[0], u.Masks[0] = addr(d.addr), addr("255.255.255.0")
			s.Uplinks[d.index] = u
		}
		s.HostAddrs[addrKey(d.addr)] = bpf.HostAddr{Ifindex: d.index}
	}
	return s
}

// addEndpoint makes a container of the namespace behind a veth.
func (w *world) addEndpoint(s *maps.State, veth, at string) {
	d := w.devices[veth]
	bridge := w.devices[d.bridge].index
	octets := netip.MustParseAddr(at).As4()
	slot := uint16(octets[1])*10 + uint16(octets[3])
	id := 1000 + uint32(slot)
	s.Endpoints[addrKey(at)] = bpf.Endpoint{
		Id: id, Ifindex: d.index, Bridge: bridge, Slot: slot, Mtu: 1500, Mac: [6]byte(d.containerMAC()),
	}
	s.Veths[d.index] = bpf.Veth{Bridge: bridge, Id: id, Slot: slot, Mac: [6]byte(d.containerMAC())}
}

// publish leads at (an address of the host, or 0.0.0.0) to a container's port.
func publish(s *maps.State, proto, at, to string) {
	from, target := netip.MustParseAddrPort(at), netip.MustParseAddrPort(to)
	key := bpf.PublishKey{Addr: bpf.Addr(from.Addr()), Port: bpf.Port(from.Port()), Proto: protocols()[proto]}
	s.Publish[key] = bpf.Publish{
		Addr: bpf.Addr(target.Addr()), Port: bpf.Port(target.Port()), Id: s.Endpoints[bpf.AddrKey{Addr: bpf.Addr(target.Addr())}].Id,
	}
}

// setBridge turns flags of a bridge on and off.
func (w *world) setBridge(s *maps.State, name string, on, off bpf.BridgeFlag) {
	b := s.Bridges[w.devices[name].index]
	b.Flags = b.Flags&^off | on
	s.Bridges[w.devices[name].index] = b
}

func addr(s string) uint32 { return bpf.Addr(netip.MustParseAddr(s)) }

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrKey(s string) bpf.AddrKey { return bpf.AddrKey{Addr: addr(s)} }

func protocols() map[string]uint8 {
	return map[string]uint8{"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP, "gre": unix.IPPROTO_GRE,
		"udplite": unix.IPPROTO_UDPLITE}
}
