package trace

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy"
)

// World is what a trace is made in.
type World struct {
	Result *policy.Result
	Names  bpf.Names
	// Way asks the kernel where a packet goes that comes in by a device, or, where from is 0, that the host sends.
	Way func(src, dst netip.Addr, from int) (Way, error)
	// Device gives a device's name and link-layer address.
	Device func(index int) (string, net.HardwareAddr, error)
	// Endpoint finds an endpoint by a name, an id's beginning or an address.
	Endpoint func(name string) (*policy.EndpointView, error)
}

// Way is the kernel's answer. Source is the address that the host would send from.
type Way struct {
	Index   int
	Local   bool // to the host itself
	None    bool // there is no way: the kernel answers so
	Gateway netip.Addr
	Source  netip.Addr
}

// UsageError is a malformed question.
type UsageError struct{ error }

func usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Trace is a packet and where it begins.
type Trace struct {
	w       World
	p       packet
	program string // of the first hook; empty where no program sees it
	index   int    // of its device
	out     api.Trace
}

// nobody's link-layer address, for who sends from somewhere, or is not known.
func strangerMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 0, 0, 0, 0, 0xfe} }

// Plan finds out what the packet is and where it comes in.
func Plan(w World, q api.TraceQuery) (*Trace, error) {
	t := &Trace{w: w}
	if err := t.packet(q); err != nil {
		return nil, err
	}
	var err error
	switch q.From {
	case "":
		return nil, usagef("who sends? --from takes a container, wire or host")
	case "wire":
		err = t.fromWire(q)
	case "host":
		err = t.fromHost()
	default:
		err = t.fromContainer(q)
	}
	return t, err
}

func (t *Trace) packet(q api.TraceQuery) error {
	p := &t.p
	switch q.Proto {
	case "icmp":
		p.proto = protoICMP
	default:
		proto, err := policy.ParseProto(q.Proto)
		if err != nil {
			return usagef("protocol %q is not tcp, udp, sctp or icmp", q.Proto)
		}
		p.proto = proto
	}
	if p.proto != protoICMP && q.Port == 0 {
		return usagef("to which port? --to %s:PORT", q.To)
	}
	if p.proto == protoICMP && q.Port != 0 {
		return usagef("icmp has no ports: --to %s/icmp", q.To)
	}
	p.sport, p.dport, p.ttl, p.size = q.SourcePort, q.Port, q.TTL, q.Size
	if p.sport == 0 {
		p.sport = 40000
	}
	if p.ttl == 0 {
		p.ttl = 64
	}
	// The programs are tried on frames of up to a page.
	const most = 3500
	if p.size < 0 || p.size > most {
		return usagef("size %d is not within 0 to %d", p.size, most)
	}
	if a, err := netip.ParseAddr(q.To); err == nil {
		if !a.Is4() {
			return usagef("%s is not an IPv4 address", q.To)
		}
		p.dst = a
		return nil
	}
	e, err := t.w.Endpoint(q.To)
	if err != nil {
		return err
	}
	if p.dst = e.Addr(); !p.dst.IsValid() {
		return fmt.Errorf("container %s has no address that is carried", e.Name)
	}
	return nil
}

func (t *Trace) fromContainer(q api.TraceQuery) error {
	e, err := t.w.Endpoint(q.From)
	if err != nil {
		return err
	}
	p := &t.p
	p.src = e.Addr()
	if q.FromAddress != "" {
		if p.src, err = netip.ParseAddr(q.FromAddress); err != nil || !p.src.Is4() {
			return usagef("%q is not an IPv4 address", q.FromAddress)
		}
	}
	if !p.src.IsValid() {
		return fmt.Errorf("container %s has no address that is carried", e.Name)
	}
	p.srcMAC = e.MAC
	if p.dstMAC, err = t.nextMAC(e); err != nil {
		return err
	}
	t.program, t.index = "from_container", e.Index
	t.step("packet", "%s leaves container %s by its veth %s on %s", t.describe(), e.Name, e.Veth, e.Bridge)
	return nil
}

// nextMAC is whom a container addresses its frame to: a neighbour on its bridge, or the gateway.
func (t *Trace) nextMAC(e *policy.EndpointView) (net.HardwareAddr, error) {
	for i := range t.w.Result.Endpoints {
		to := &t.w.Result.Endpoints[i]
		for _, a := range to.Addrs {
			if a == t.p.dst && to.BridgeIndex == e.BridgeIndex {
				return to.MAC, nil
			}
		}
	}
	for _, b := range t.w.Result.Bridges {
		if b.Index != e.BridgeIndex {
			continue
		}
		for _, s := range b.Subnets {
			if s.Contains(t.p.dst) && t.p.dst != b.Address {
				return strangerMAC(), nil // somebody on the bridge whom nobody here knows
			}
		}
	}
	_, mac, err := t.w.Device(e.BridgeIndex)
	return mac, err
}

// anybody stands for whoever is outside: an address that nobody has (RFC 5737).
var anybody = netip.AddrFrom4([4]byte{203, 0, 113, 77})

// fromWire begins with a packet that comes in by an uplink.
func (t *Trace) fromWire(q api.TraceQuery) error {
	p := &t.p
	var err error
	p.src = anybody
	if q.FromAddress != "" {
		if p.src, err = netip.ParseAddr(q.FromAddress); err != nil || !p.src.Is4() {
			return usagef("%q is not an IPv4 address", q.FromAddress)
		}
	}
	uplink, err := t.uplink(q.Uplink)
	if err != nil {
		return err
	}
	name, mac, err := t.w.Device(uplink)
	if err != nil {
		return err
	}
	p.srcMAC, p.dstMAC = strangerMAC(), mac
	t.program, t.index = "from_uplink", uplink
	t.step("packet", "%s comes from the wire by %s", t.describe(), name)
	return nil
}

// uplink is where a packet comes in: where the user says; else where the address is that it dials; else where the way back leads.
func (t *Trace) uplink(name string) (int, error) {
	var names []string
	first := 0
	back, err := t.w.Way(netip.Addr{}, t.p.src, 0)
	if err != nil {
		back = Way{}
	}
	for _, u := range t.w.Result.Uplinks {
		if !u.Attached {
			continue
		}
		names = append(names, u.Name)
		switch {
		case name != "":
			if u.Name == name {
				return u.Index, nil
			}
		case u.Address == t.p.dst:
			return u.Index, nil
		case first == 0 || u.Index == back.Index:
			first = u.Index
		}
	}
	switch {
	case name != "":
		return 0, fmt.Errorf("uplink %s: it is not attached; there are %v", name, names)
	case first == 0:
		return 0, errors.New("nothing comes from the wire: no uplink is attached")
	}
	return first, nil
}

func (t *Trace) fromHost() error {
	p := &t.p
	if to, ok := t.published(); ok {
		t.step("packet", "the host dials %s:%d, which is published", p.dst, p.dport)
		t.step("socket", "the socket programs connect it to %s:%d instead, and tell it that it is what it dialled", bpf.ToAddr(to.Addr), bpf.ToPort(to.Port))
		p.dst, p.dport = bpf.ToAddr(to.Addr), bpf.ToPort(to.Port)
	}
	way, err := t.w.Way(netip.Addr{}, p.dst, 0)
	if err != nil {
		return err
	}
	p.src = way.Source
	if way.None || way.Local || !p.src.IsValid() {
		if !p.src.IsValid() {
			p.src = p.dst
		}
		t.step("packet", "%s, from the host", t.describe())
		t.kernel(way, false)
		return nil
	}
	name, mac, err := t.w.Device(way.Index)
	if err != nil {
		return err
	}
	p.srcMAC, p.dstMAC = mac, strangerMAC()
	t.step("packet", "%s leaves the host by %s", t.describe(), name)
	if t.program = t.egress(way.Index); t.program == "" {
		t.step("program", "none: %s is not attached", name)
		t.kernel(way, false)
	}
	t.index = way.Index
	return nil
}

// published is where a port leads that the host dials by one of its own addresses.
func (t *Trace) published() (bpf.Publish, bool) {
	s := t.w.Result.State
	if _, own := s.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(t.p.dst)}]; !own || t.p.proto == protoICMP {
		return bpf.Publish{}, false
	}
	for _, addr := range []netip.Addr{t.p.dst, netip.IPv4Unspecified()} {
		if to, ok := s.Publish[bpf.PublishKey{Addr: bpf.Addr(addr), Port: bpf.Port(t.p.dport), Proto: t.p.proto}]; ok {
			return to, true
		}
	}
	return bpf.Publish{}, false
}

// egress is the program that sees what the host's stack sends out of a device, if any.
func (t *Trace) egress(index int) string {
	s := t.w.Result.State
	if _, ok := s.Bridges[uint32(index)]; ok {
		return "to_bridge"
	}
	if _, ok := s.Uplinks[uint32(index)]; ok {
		return "to_uplink"
	}
	if s.Overlay.Ifindex != 0 && s.Overlay.Ifindex == uint32(index) {
		return "to_overlay"
	}
	return ""
}

func (t *Trace) step(step, format string, args ...any) {
	t.out.Steps = append(t.out.Steps, api.TraceStep{Step: step, Fact: fmt.Sprintf(format, args...)})
}

func (t *Trace) describe() string {
	p := &t.p
	if p.proto == protoICMP {
		return fmt.Sprintf("icmp echo request %s>%s id %d, %d bytes", p.src, p.dst, p.sport, p.size)
	}
	return fmt.Sprintf("%s %s:%d>%s:%d", policy.ProtoName(p.proto), p.src, p.sport, p.dst, p.dport)
}
