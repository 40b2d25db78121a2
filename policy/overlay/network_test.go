package overlay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sixteen(n Network) Network {
	n.Prefix = netip.MustParsePrefix("10.200.0.0/16")
	n.SubnetLen = 24
	n.SubnetMin, n.SubnetMax = netip.MustParseAddr("10.200.1.0"), netip.MustParseAddr("10.200.255.0")
	return n
}

// overlay C1: what flannel's rules accept, refuse and compute; and where the field is named that flannel trips over later.
func TestParseNetwork(t *testing.T) {
	vxlan := Network{Kind: VXLAN, VNI: 1, Port: 8472}
	with := func(change func(*Network)) Network {
		n := sixteen(vxlan)
		change(&n)
		return n
	}
	for _, tt := range []struct {
		name, config string
		want         Network
		err          string // a part of it
	}{
		{name: "defaults", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`, want: sixteen(vxlan)},
		{name: "no backend is udp", config: `{"Network":"10.200.0.0/16"}`, want: sixteen(Network{Kind: UDP, Port: 8285})},
		{name: "host-gw", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"host-gw"}}`, want: sixteen(Network{Kind: HostGW})},
		{name: "capitals", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"VXLAN"}}`, want: sixteen(vxlan)},
		{name: "case of fields", config: `{"network":"10.200.0.0/16","backend":{"type":"vxlan","vni":7,"Directrouting":true}}`,
			want: with(func(n *Network) { n.VNI, n.DirectRouting = 7, true })},
		{name: "host bits", config: `{"Network":"10.200.3.4/16","Backend":{"Type":"vxlan"}}`, want: sixteen(vxlan)},
		{name: "unknown keys", config: `{"Network":"10.200.0.0/16","Colour":"red","Backend":{"Type":"vxlan","Speed":9}}`, want: sixteen(vxlan)},
		{name: "port 0", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","Port":0}}`, want: sixteen(vxlan)},
		{name: "port 65535", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","Port":65535}}`, want: with(func(n *Network) { n.Port = 65535 })},
		{name: "port 70000", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","Port":70000}}`, err: "Port 70000"},
		{name: "VNI 1", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":1}}`, want: sixteen(vxlan)},
		{name: "VNI 0", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":0}}`, want: with(func(n *Network) { n.VNI = 0 })},
		{name: "largest VNI", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":16777215}}`, want: with(func(n *Network) { n.VNI = 16777215 })},
		{name: "VNI too large", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}`, err: "VNI 16777216"},
		{name: "VNI negative", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":-1}}`, err: "VNI -1"},
		{name: "VNI as text", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","VNI":"1"}}`, err: "Backend"},
		{name: "MTU 1280", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","MTU":1280}}`, want: with(func(n *Network) { n.MTU = 1280 })},
		{name: "MTU 9000", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","MTU":9000}}`, want: with(func(n *Network) { n.MTU = 9000 })},
		{name: "MTU 60", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","MTU":60}}`, err: "MTU 60"},
		{name: "MTU 68", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan","MTU":68}}`, err: "MTU 68"},
		{name: "backend without type", config: `{"Network":"10.200.0.0/16","Backend":{}}`, err: `Type ""`},
		{name: "unknown backend", config: `{"Network":"10.200.0.0/16","Backend":{"Type":"wireguard"}}`, err: `"wireguard"`},
		{name: "no network", config: `{"Backend":{"Type":"vxlan"}}`, err: "Network is missing"},
		{name: "no IPv4", config: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}`, err: "EnableIPv4"},
		{name: "both off", config: `{"EnableIPv4":false,"Network":"10.200.0.0/16"}`, err: "EnableIPv4"},
		{name: "dual", config: `{"Network":"10.200.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}`,
			want: with(func(n *Network) { n.IPv6 = true })},
		{name: "IPv6 network", config: `{"Network":"fd00::/48"}`, err: "fd00::/48"},
		{name: "/22", config: `{"Network":"10.200.4.0/22","Backend":{"Type":"host-gw"}}`, want: Network{Kind: HostGW, SubnetLen: 24,
			Prefix: netip.MustParsePrefix("10.200.4.0/22"), SubnetMin: netip.MustParseAddr("10.200.5.0"), SubnetMax: netip.MustParseAddr("10.200.7.0")}},
		{name: "/23", config: `{"Network":"10.200.4.0/23","Backend":{"Type":"host-gw"}}`, want: Network{Kind: HostGW, SubnetLen: 25,
			Prefix: netip.MustParsePrefix("10.200.4.0/23"), SubnetMin: netip.MustParseAddr("10.200.4.128"), SubnetMax: netip.MustParseAddr("10.200.5.128")}},
		{name: "/28", config: `{"Network":"10.200.4.0/28","Backend":{"Type":"host-gw"}}`, want: Network{Kind: HostGW, SubnetLen: 30,
			Prefix: netip.MustParsePrefix("10.200.4.0/28"), SubnetMin: netip.MustParseAddr("10.200.4.4"), SubnetMax: netip.MustParseAddr("10.200.4.12")}},
		{name: "/29", config: `{"Network":"10.200.4.0/29"}`, err: "too small"},
		{name: "SubnetLen 30", config: `{"Network":"10.200.0.0/16","SubnetLen":30,"Backend":{"Type":"host-gw"}}`, want: Network{Kind: HostGW, SubnetLen: 30,
			Prefix: netip.MustParsePrefix("10.200.0.0/16"), SubnetMin: netip.MustParseAddr("10.200.0.4"), SubnetMax: netip.MustParseAddr("10.200.255.252")}},
		{name: "SubnetLen 31", config: `{"Network":"10.200.0.0/16","SubnetLen":31}`, err: "SubnetLen 31"},
		{name: "SubnetLen 17", config: `{"Network":"10.200.0.0/16","SubnetLen":17}`, err: "four subnets"},
		{name: "SubnetLen 18", config: `{"Network":"10.200.0.0/16","SubnetLen":18,"Backend":{"Type":"host-gw"}}`, want: Network{Kind: HostGW, SubnetLen: 18,
			Prefix: netip.MustParsePrefix("10.200.0.0/16"), SubnetMin: netip.MustParseAddr("10.200.64.0"), SubnetMax: netip.MustParseAddr("10.200.192.0")}},
		{name: "bounds", config: `{"Network":"10.200.0.0/16","SubnetMin":"10.200.10.0","SubnetMax":"10.200.20.0","Backend":{"Type":"vxlan"}}`,
			want: with(func(n *Network) {
				n.SubnetMin, n.SubnetMax = netip.MustParseAddr("10.200.10.0"), netip.MustParseAddr("10.200.20.0")
			})},
		{name: "min outside", config: `{"Network":"10.200.0.0/16","SubnetMin":"10.201.0.0"}`, err: "SubnetMin 10.201.0.0 is not in"},
		{name: "max outside", config: `{"Network":"10.200.0.0/16","SubnetMax":"10.201.0.0"}`, err: "SubnetMax 10.201.0.0 is not in"},
		{name: "min between", config: `{"Network":"10.200.0.0/16","SubnetMin":"10.200.10.5"}`, err: "SubnetMin 10.200.10.5 is not the beginning"},
		{name: "max between", config: `{"Network":"10.200.0.0/16","SubnetMax":"10.200.10.5"}`, err: "SubnetMax 10.200.10.5 is not the beginning"},
		{name: "min above max", config: `{"Network":"10.200.0.0/16","SubnetMin":"10.200.20.0","SubnetMax":"10.200.10.0"}`, err: "above SubnetMax"},
		{name: "BOM", config: "\ufeff" + `{"Network":"10.200.0.0/16"}`, err: "invalid character"},
		{name: "empty", config: ``, err: "unexpected end"},
		{name: "not JSON", config: `network`, err: "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseNetwork([]byte(tt.config))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one about %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// overlay D4: the MTU that containers are told.
func TestInnerMTU(t *testing.T) {
	for _, tt := range []struct {
		name    string
		network Network
		device  int
		want    int
	}{
		{"vxlan", Network{Kind: VXLAN}, 1500, 1450},
		{"vxlan with an MTU", Network{Kind: VXLAN, MTU: 1400}, 1500, 1350},
		{"udp", Network{Kind: UDP}, 1500, 1472},
		{"host-gw", Network{Kind: HostGW}, 1500, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.network.InnerMTU(tt.device); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	n := sixteen(Network{})
	n.SubnetMax = netip.MustParseAddr("10.200.4.0")
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, tt := range []struct {
		name  string
		taken []netip.Prefix
		seed  uint64
		want  string // empty: none
	}{
		{"first", nil, 0, "10.200.1.0/24"},
		{"by the seed", nil, 2, "10.200.3.0/24"},
		{"around the end", prefixes("10.200.4.0/24"), 3, "10.200.1.0/24"},
		{"largest seed", nil, 1<<64 - 1, "10.200.4.0/24"},
		{"only one left", prefixes("10.200.1.0/24", "10.200.2.0/25", "10.200.4.128/30"), 0, "10.200.3.0/24"},
		{"outside counts for nothing", prefixes("10.200.9.0/24", "10.201.1.0/24", "0.0.0.0/32"), 0, "10.200.1.0/24"},
		{"all taken", prefixes("10.200.0.0/16"), 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := n.Choose(tt.taken, tt.seed)
			if ok != (tt.want != "") || ok && got.String() != tt.want {
				t.Errorf("%v %v, want %q", got, ok, tt.want)
			}
		})
	}
}
