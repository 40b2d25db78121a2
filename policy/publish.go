package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The protocols that a port can be published for: IPPROTO_* of linux/in.h.
const (
	ProtoTCP  uint8 = 6
	ProtoUDP  uint8 = 17
	ProtoSCTP uint8 = 132
)

// PublishSpec is a published port, or a range of them that leads to an equally long range. Ports are in the machine's order; HostEnd and End
// repeat HostPort and Port where it is a single port. An invalid HostIP stands for every address of the host.
type PublishSpec struct {
	HostIP   netip.Addr
	HostPort uint16
	HostEnd  uint16
	Port     uint16
	End      uint16
	Proto    uint8 // ProtoTCP, ProtoUDP or ProtoSCTP
}

// HostPorts is the host's side of a PublishSpec, and what `unpublish` is told. Start and End are both included.
type HostPorts struct {
	HostIP netip.Addr // invalid: every address
	Start  uint16
	End    uint16
	Proto  uint8
}

// ParsePublish reads [HOSTIP:]HOSTPORT[-END]:CPORT[-END][/tcp|udp|sctp]. Every error is one of usage.
func ParsePublish(s string) (PublishSpec, error) {
	const grammar = "want [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]"
	fields, proto, err := splitSpec(s)
	if err != nil {
		return PublishSpec{}, fmt.Errorf("published port %q: %w", s, err)
	}
	if len(fields) < 2 {
		return PublishSpec{}, fmt.Errorf("published port %q: no container port: %s", s, grammar)
	}
	host, err := parseHost(fields[:len(fields)-1], proto)
	if err != nil {
		return PublishSpec{}, fmt.Errorf("published port %q: %w", s, err)
	}
	port, end, err := parseRange(fields[len(fields)-1])
	if err != nil {
		return PublishSpec{}, fmt.Errorf("published port %q: %w", s, err)
	}
	if host.End-host.Start != end-port {
		return PublishSpec{}, fmt.Errorf("published port %q: %d host ports do not fit %d container ports", s,
			int(host.End)-int(host.Start)+1, int(end)-int(port)+1)
	}
	return PublishSpec{HostIP: host.HostIP, HostPort: host.Start, HostEnd: host.End, Port: port, End: end, Proto: proto}, nil
}

// ParseUnpublish reads [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]. Every error is one of usage.
func ParseUnpublish(s string) (HostPorts, error) {
	fields, proto, err := splitSpec(s)
	if err != nil {
		return HostPorts{}, fmt.Errorf("host port %q: %w", s, err)
	}
	if n := len(fields); n > 1 {
		// Somebody typed what they once published.
		if _, _, err := parseRange(fields[n-2]); err == nil {
			return HostPorts{}, fmt.Errorf("host port %q: leave the container's port out: want [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]", s)
		}
	}
	h, err := parseHost(fields, proto)
	if err != nil {
		return HostPorts{}, fmt.Errorf("host port %q: %w", s, err)
	}
	return h, nil
}

// splitSpec takes the protocol off and splits the rest at its colons. A missing protocol is tcp.
func splitSpec(s string) ([]string, uint8, error) {
	rest, word, named := strings.Cut(s, "/")
	proto := ProtoTCP
	if named {
		var err error
		if proto, err = ParseProto(word); err != nil {
			return nil, 0, err
		}
	}
	fields := strings.Split(rest, ":")
	if strings.ContainsAny(rest, "[]") || len(fields) > 3 {
		return nil, 0, fmt.Errorf("an IPv6 host address is not supported yet")
	}
	return fields, proto, nil
}

// parseHost reads [HOSTIP] and HOSTPORT[-END], already split.
func parseHost(fields []string, proto uint8) (HostPorts, error) {
	h := HostPorts{Proto: proto}
	var err error
	switch len(fields) {
	case 1:
	case 2:
		if h.HostIP, err = parseHostIP(fields[0]); err != nil {
			return HostPorts{}, err
		}
	default:
		return HostPorts{}, fmt.Errorf("too many colons: want [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]")
	}
	h.Start, h.End, err = parseRange(fields[len(fields)-1])
	return h, err
}

// parseHostIP gives the invalid address for 0.0.0.0.
func parseHostIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address", s)
	}
	if !a.Is4() {
		return netip.Addr{}, fmt.Errorf("an IPv6 host address is not supported yet")
	}
	if a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("%s is not an address that a host can have", s)
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return a, nil
}

// parseRange reads PORT[-END].
func parseRange(s string) (start, end uint16, err error) {
	first, last, ranged := strings.Cut(s, "-")
	if start, err = parsePort(first); err != nil {
		return 0, 0, err
	}
	if !ranged {
		return start, start, nil
	}
	if end, err = parsePort(last); err != nil {
		return 0, 0, err
	}
	if end < start {
		return 0, 0, fmt.Errorf("range %s ends before it starts", s)
	}
	return start, end, nil
}

func parsePort(s string) (uint16, error) {
	p, err := strconv.ParseUint(s, 10, 64)
	if err != nil && strings.Trim(s, "0123456789") != "" || s == "" {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	if err != nil || p < 1 || p > 65535 {
		return 0, fmt.Errorf("port %s is not between 1 and 65535", s)
	}
	return uint16(p), nil
}

// ParseProto reads tcp, udp or sctp, in either case.
func ParseProto(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "tcp":
		return ProtoTCP, nil
	case "udp":
		return ProtoUDP, nil
	case "sctp":
		return ProtoSCTP, nil
	}
	return 0, fmt.Errorf("protocol %q is not tcp, udp or sctp", s)
}

// ProtoName is the inverse of ParseProto, with icmp beside them; any other protocol is its number.
func ProtoName(proto uint8) string {
	switch proto {
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoSCTP:
		return "sctp"
	case 1:
		return "icmp"
	}
	return strconv.Itoa(int(proto))
}

// String gives the spec in its grammar, the protocol always named: ParsePublish reads it back.
func (s PublishSpec) String() string {
	host := s.Host()
	return host.ports() + ":" + formatRange(s.Port, s.End) + "/" + ProtoName(s.Proto)
}

// MarshalText is String, for the state file.
func (s PublishSpec) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}

// UnmarshalText is ParsePublish.
func (s *PublishSpec) UnmarshalText(b []byte) error {
	spec, err := ParsePublish(string(b))
	if err != nil {
		return err
	}
	*s = spec
	return nil
}

// Host is the spec's side of the host.
func (s PublishSpec) Host() HostPorts {
	return HostPorts{HostIP: s.HostIP, Start: s.HostPort, End: s.HostEnd, Proto: s.Proto}
}

// Conflicts tells whether both claim the same port of the same address. A port on every address and one on a certain address do not
// conflict: the certain one wins where both match.
func (s PublishSpec) Conflicts(other PublishSpec) bool {
	return s.Host().Overlaps(other.Host())
}

// Overlaps tells whether both hold the same port of the same address, where every address is one of its own.
func (h HostPorts) Overlaps(other HostPorts) bool {
	return h.Proto == other.Proto && h.HostIP == other.HostIP && h.Start <= other.End && other.Start <= h.End
}

// String gives the ports in the grammar of ParseUnpublish, the protocol always named.
func (h HostPorts) String() string {
	return h.ports() + "/" + ProtoName(h.Proto)
}

func (h HostPorts) ports() string {
	ports := formatRange(h.Start, h.End)
	if h.HostIP.IsValid() {
		return h.HostIP.String() + ":" + ports
	}
	return ports
}

func formatRange(start, end uint16) string {
	if start == end {
		return strconv.Itoa(int(start))
	}
	return strconv.Itoa(int(start)) + "-" + strconv.Itoa(int(end))
}
