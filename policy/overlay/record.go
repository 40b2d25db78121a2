package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Record is what a host tells the others under the key of its subnet.
type Record struct {
	PublicIP netip.Addr // where the host is reached
	Kind     Kind       // empty where the record names none, as those of UDP hosts do
	VNI      uint32     // of VXLAN; HasVNI tells whether the record has it
	HasVNI   bool
	MAC      net.HardwareAddr // of the VXLAN tunnel endpoint
	Node     string           // who wrote it; empty where flannel did
}

// SubnetKey is the last element of a subnet's key: 10.200.37.0-24.
func SubnetKey(p netip.Prefix) string { return p.Addr().String() + "-" + strconv.Itoa(p.Bits()) }

// ParseSubnetKey reads the last element of a key. In a network that also has IPv6 an IPv6 subnet follows after &, and is passed over.
func ParseSubnetKey(s string) (netip.Prefix, error) {
	v4, _, _ := strings.Cut(s, "&")
	addr, bits, ok := strings.Cut(v4, "-")
	if !ok {
		return netip.Prefix{}, fmt.Errorf("key %q: not a subnet like 10.200.37.0-24", s)
	}
	p, err := netip.ParsePrefix(addr + "/" + bits)
	switch {
	case err != nil || !p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("key %q: not an IPv4 subnet like 10.200.37.0-24", s)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("key %q: its address is not the subnet's first", s)
	}
	return p, nil
}

// value is a record as it is stored. flannel ignores what it does not know, so Node may stand in BackendData.
type value struct {
	PublicIP      jsonAddr
	PublicIPv6    json.RawMessage `json:",omitempty"`
	BackendType   string          `json:",omitempty"`
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
}

type backendData struct {
	VNI     *uint32   `json:"VNI,omitempty"`
	VtepMAC string    `json:"VtepMAC,omitempty"`
	Ebpfnet *nodeData `json:"ebpfnet,omitempty"`
}

type nodeData struct {
	Node string `json:"node"`
}

// MarshalJSON writes the address as text.
func (a jsonAddr) MarshalJSON() ([]byte, error) { return json.Marshal(a.Addr.String()) }

// Encode gives a record as flannel writes it, field by field in its order, with the node's id added.
func (r *Record) Encode() ([]byte, error) {
	v := value{PublicIP: jsonAddr{r.PublicIP}, PublicIPv6: json.RawMessage("null")}
	d := backendData{}
	switch r.Kind {
	case VXLAN:
		v.BackendType, d.VNI, d.VtepMAC = string(VXLAN), &r.VNI, r.MAC.String()
	case HostGW:
		v.BackendType = string(HostGW)
	}
	if r.Node != "" {
		d.Ebpfnet = &nodeData{r.Node}
	}
	if d != (backendData{}) {
		b, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode record: %w", err)
		}
		v.BackendData = b
	}
	return json.Marshal(v)
}

// DecodeRecord reads the value under a subnet's key. It tells what is broken in itself; whether the record makes a peer is for Accept.
func DecodeRecord(b []byte) (Record, error) {
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	r := Record{PublicIP: v.PublicIP.Addr, Kind: Kind(v.BackendType)}
	if !r.PublicIP.IsValid() {
		return Record{}, errors.New("record: no PublicIP")
	}
	if len(v.BackendData) == 0 || string(v.BackendData) == "null" {
		if r.Kind == VXLAN {
			return r, errors.New("record: no BackendData")
		}
		return r, nil
	}
	var d backendData
	if err := json.Unmarshal(v.BackendData, &d); err != nil {
		return r, fmt.Errorf("record: BackendData: %w", err)
	}
	if d.Ebpfnet != nil {
		r.Node = d.Ebpfnet.Node
	}
	if r.Kind != VXLAN {
		return r, nil
	}
	if d.VNI != nil {
		r.VNI, r.HasVNI = *d.VNI, true
	}
	mac, err := net.ParseMAC(d.VtepMAC)
	if err != nil || len(mac) != 6 {
		return r, fmt.Errorf("record: VtepMAC %q is not an Ethernet address", d.VtepMAC)
	}
	if mac[0]&1 != 0 || [6]byte(mac) == [6]byte{} {
		return r, fmt.Errorf("record: VtepMAC %s is not one host's address", mac)
	}
	r.MAC = mac
	return r, nil
}

// DerivedMAC is the tunnel endpoint's address of a host that has not published another: locally administered, and made from the host's own
// address, so that hosts without a common registry know each other's.
func DerivedMAC(public netip.Addr) net.HardwareAddr {
	b := public.As4()
	return net.HardwareAddr{0x0e, 0xeb, b[0], b[1], b[2], b[3]}
}
