package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Kind is how packets get to another host.
type Kind string

// The kinds that there are, by the names that the configuration uses.
const (
	VXLAN  Kind = "vxlan"   // in VXLAN (RFC 7348) between tunnel endpoints
	HostGW Kind = "host-gw" // as they are, with the other host as the next hop
	UDP    Kind = "udp"     // as the payload of a UDP datagram, without a further header
)

// What a configuration that does not say otherwise means.
const (
	defaultVNI       = 1
	defaultVXLANPort = 8472 // the Linux kernel's, which is older than RFC 7348's 4789
	defaultUDPPort   = 8285
)

// What a tunnel adds to a packet, in bytes: IPv4 and UDP headers, and for VXLAN its own and the inner Ethernet header.
const (
	vxlanOverhead = 20 + 8 + 8 + 14
	udpOverhead   = 20 + 8
)

// minMTU is what every IPv4 host must take in one piece (RFC 791, section 3.1).
const minMTU = 68

// maxVNI is what fits the field (RFC 7348, section 5).
const maxVNI = 1<<24 - 1

// Network is the configuration that all hosts of a network share.
type Network struct {
	Prefix    netip.Prefix // masked
	SubnetLen int          // of each host's subnet
	SubnetMin netip.Addr   // first and last subnet that is given out, by their network address
	SubnetMax netip.Addr
	Kind      Kind
	VNI       uint32 // of VXLAN
	Port      uint16 // of VXLAN and UDP
	MTU       int    // of the underlay, where the configuration names one; 0: the device's
	// DirectRouting asks for the packet as it is wherever a peer is on the same segment, and for VXLAN elsewhere.
	DirectRouting bool
	// IPv6 tells that the network has IPv6 too, which this host takes no part in.
	IPv6 bool
}

// Overhead is by how much a packet grows on its way to a peer that it is tunnelled to.
func (n *Network) Overhead() int {
	switch n.Kind {
	case VXLAN:
		return vxlanOverhead
	case UDP:
		return udpOverhead
	default:
		return 0
	}
}

// InnerMTU is the largest packet that containers may send, for the MTU of the device that leads to the peers.
func (n *Network) InnerMTU(device int) int {
	if n.MTU > 0 {
		device = n.MTU
	}
	return device - n.Overhead()
}

// configuration is the value under PREFIX/config. Fields are matched as encoding/json does, whatever the case.
type configuration struct {
	EnableIPv4 *bool
	EnableIPv6 bool
	Network    jsonPrefix
	SubnetMin  jsonAddr
	SubnetMax  jsonAddr
	SubnetLen  uint
	Backend    json.RawMessage
}

// backend is the configuration's Backend.
type backend struct {
	Type          string
	VNI           int
	Port          int
	MTU           int
	DirectRouting bool
}

// jsonPrefix is an IPv4 prefix; bits beyond its length are cleared.
type jsonPrefix struct{ netip.Prefix }

// UnmarshalJSON reads "a.b.c.d/n".
func (p *jsonPrefix) UnmarshalJSON(b []byte) error {
	v, err := netip.ParsePrefix(strings.Trim(string(b), `"`))
	if err != nil {
		return err
	}
	if !v.Addr().Is4() {
		return fmt.Errorf("%s is not an IPv4 prefix", v)
	}
	p.Prefix = v.Masked()
	return nil
}

// jsonAddr is an IPv4 address.
type jsonAddr struct{ netip.Addr }

// UnmarshalJSON reads "a.b.c.d".
func (a *jsonAddr) UnmarshalJSON(b []byte) error {
	v, err := netip.ParseAddr(strings.Trim(string(b), `"`))
	if err != nil {
		return err
	}
	if v = v.Unmap(); !v.Is4() {
		return fmt.Errorf("%s is not an IPv4 address", v)
	}
	a.Addr = v
	return nil
}

// ParseNetwork reads the value under PREFIX/config. It accepts what flannel accepts and computes what flannel computes, but refuses at once,
// naming the field, what flannel takes and then cannot work with: a smallest subnet above the largest, and a VNI, port or MTU that is
// none.
func ParseNetwork(value []byte) (Network, error) {
	var c configuration
	if err := json.Unmarshal(value, &c); err != nil {
		return Network{}, fmt.Errorf("network configuration: %w", err)
	}
	n, err := c.network()
	if err != nil {
		return Network{}, fmt.Errorf("network configuration: %w", err)
	}
	return n, nil
}

func (c *configuration) network() (Network, error) {
	n := Network{Prefix: c.Network.Prefix, IPv6: c.EnableIPv6}
	if c.EnableIPv4 != nil && !*c.EnableIPv4 {
		return n, errors.New("EnableIPv4 is false: only IPv4 is carried")
	}
	if !n.Prefix.IsValid() {
		return n, errors.New("Network is missing: an IPv4 prefix like 10.200.0.0/16")
	}
	if err := c.subnets(&n); err != nil {
		return n, err
	}
	return n, c.backend(&n)
}

// smallestSubnet is the longest subnet that still has room for a bridge and a container.
const smallestSubnet = 30

// subnets fills in which subnets are given out. The first one of the network is not: its address would be the network's own.
func (c *configuration) subnets(n *Network) error {
	bits := n.Prefix.Bits()
	switch {
	case c.SubnetLen > smallestSubnet:
		return fmt.Errorf("SubnetLen %d: at most %d", c.SubnetLen, smallestSubnet)
	case c.SubnetLen > 0 && int(c.SubnetLen) < bits+2:
		return fmt.Errorf("SubnetLen %d: Network %s has to hold at least four subnets", c.SubnetLen, n.Prefix)
	case c.SubnetLen > 0:
		n.SubnetLen = int(c.SubnetLen)
	case bits > smallestSubnet-2:
		return fmt.Errorf("Network %s is too small: at most /%d", n.Prefix, smallestSubnet-2)
	case bits <= 22:
		n.SubnetLen = 24
	default:
		n.SubnetLen = bits + 2
	}
	size := uint64(1) << (32 - n.SubnetLen)
	first := number(n.Prefix.Addr())
	bound := func(name string, given netip.Addr, otherwise uint64) (netip.Addr, error) {
		if !given.IsValid() || given == netip.IPv4Unspecified() {
			return address(otherwise), nil
		}
		if !n.Prefix.Contains(given) {
			return given, fmt.Errorf("%s %s is not in Network %s", name, given, n.Prefix)
		}
		if number(given)%size != 0 {
			return given, fmt.Errorf("%s %s is not the beginning of a /%d", name, given, n.SubnetLen)
		}
		return given, nil
	}
	var err error
	if n.SubnetMin, err = bound("SubnetMin", c.SubnetMin.Addr, first+size); err != nil {
		return err
	}
	if n.SubnetMax, err = bound("SubnetMax", c.SubnetMax.Addr, first+1<<(32-bits)-size); err != nil {
		return err
	}
	if n.SubnetMax.Less(n.SubnetMin) {
		return fmt.Errorf("SubnetMin %s is above SubnetMax %s", n.SubnetMin, n.SubnetMax)
	}
	return nil
}

// backend fills in how packets travel. Without a Backend flannel means UDP.
func (c *configuration) backend(n *Network) error {
	b := backend{Type: string(UDP), VNI: defaultVNI}
	if len(c.Backend) > 0 {
		b.Type = ""
		if err := json.Unmarshal(c.Backend, &b); err != nil {
			return fmt.Errorf("Backend: %w", err)
		}
	}
	n.Kind = Kind(strings.ToLower(b.Type))
	switch n.Kind {
	case VXLAN:
		n.Port = defaultVXLANPort
	case UDP:
		n.Port = defaultUDPPort
	case HostGW:
		return nil
	default:
		return fmt.Errorf("Backend Type %q: it is vxlan, host-gw or udp", b.Type)
	}
	if b.Port < 0 || b.Port > 65535 {
		return fmt.Errorf("Backend Port %d: 0 to 65535", b.Port)
	}
	if b.Port > 0 {
		n.Port = uint16(b.Port)
	}
	if n.Kind == UDP {
		return nil
	}
	if b.VNI < 0 || b.VNI > maxVNI {
		return fmt.Errorf("Backend VNI %d: 0 to %d", b.VNI, maxVNI)
	}
	if b.MTU != 0 && (b.MTU < minMTU+vxlanOverhead || b.MTU > 65535) {
		return fmt.Errorf("Backend MTU %d: %d to 65535", b.MTU, minMTU+vxlanOverhead)
	}
	n.VNI, n.MTU, n.DirectRouting = uint32(b.VNI), b.MTU, b.DirectRouting
	return nil
}

// Equal tells whether two configurations, as they are stored, ask for the same.
func Equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errx := ParseNetwork(a)
	y, erry := ParseNetwork(b)
	return errx == nil && erry == nil && x == y
}

// number gives an IPv4 address as a number; 64 bits, so that what lies behind the last address is one too.
func number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

// address is the inverse of number.
func address(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
