package overlay

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The records as a flannel host of version 0.28 leaves them in etcd, and ours beside them: flannel's fields in flannel's form.
func TestRecordGolden(t *testing.T) {
	mac, err := net.ParseMAC("22:5a:51:d6:4d:2d")
	if err != nil {
		t.Fatal(err)
	}
	public := netip.MustParseAddr("198.18.0.1")
	for _, tt := range []struct {
		name string
		r    Record
		want string
	}{
		{"vxlan as flannel's", Record{PublicIP: public, Kind: VXLAN, VNI: 1, HasVNI: true, MAC: mac},
			`{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:2d"}}`},
		{"vxlan", Record{PublicIP: public, Kind: VXLAN, VNI: 1, HasVNI: true, MAC: mac, Node: "n1"},
			`{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:2d","ebpfnet":{"node":"n1"}}}`},
		{"host-gw as flannel's", Record{PublicIP: public, Kind: HostGW}, `{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendType":"host-gw"}`},
		{"host-gw", Record{PublicIP: public, Kind: HostGW, Node: "n1"},
			`{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendType":"host-gw","BackendData":{"ebpfnet":{"node":"n1"}}}`},
		{"udp as flannel's", Record{PublicIP: public}, `{"PublicIP":"198.18.0.1","PublicIPv6":null}`},
		{"udp", Record{PublicIP: public, Node: "n1"}, `{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendData":{"ebpfnet":{"node":"n1"}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != tt.want {
				t.Errorf("wrote %s\nwant  %s", b, tt.want)
			}
			back, err := DecodeRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.r, back, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSubnetKey(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"10.200.37.0-24", "10.200.37.0/24"},
		{"10.200.73.0-24&fd00:200:0:56::-64", "10.200.73.0/24"},
		{"10.200.37.1-24", ""}, {"10.200.37.0", ""}, {"10.200.37.0-33", ""}, {"300.1.1.0-24", ""}, {"fd00::-64", ""}, {"", ""}, {"x-y", ""},
	} {
		p, err := ParseSubnetKey(tt.key)
		if (err != nil) != (tt.want == "") || err == nil && p.String() != tt.want {
			t.Errorf("%q: %v %v, want %q", tt.key, p, err, tt.want)
		}
		if err == nil && !strings.Contains(tt.key, "&") && SubnetKey(p) != tt.key {
			t.Errorf("%q comes back as %q", tt.key, SubnetKey(p))
		}
	}
}

const good = `{"PublicIP":"198.18.0.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:07"}}`

// overlay W4, overlay W5: each bad record is refused for its own reason, and the good one stays a peer beside all of them.
func TestAccept(t *testing.T) {
	n := sixteen(Network{Kind: VXLAN, VNI: 1, Port: 8472})
	self := Self{Subnet: netip.MustParsePrefix("10.200.1.0/24"), Public: []netip.Addr{netip.MustParseAddr("198.18.0.1")}}
	record := func(old, fresh string) string { return strings.Replace(good, old, fresh, 1) }
	for _, tt := range []struct {
		name, key, value string
		created          int64
		why              string // empty: it is a peer
	}{
		{name: "not JSON", key: "10.200.8.0-24", value: "peer", why: "record: invalid character"},
		{name: "wrong type", key: "10.200.8.0-24", value: `{"PublicIP":7}`, why: "record"},
		{name: "list", key: "10.200.8.0-24", value: `[]`, why: "record"},
		{name: "null", key: "10.200.8.0-24", value: `null`, why: "no PublicIP"},
		{name: "bad MAC", key: "10.200.8.0-24", value: record("22:5a:51:d6:4d:07", "22:5a"), why: "VtepMAC"},
		{name: "long MAC", key: "10.200.8.0-24", value: record("22:5a:51:d6:4d:07", "22:5a:51:d6:4d:07:08:09"), why: "VtepMAC"},
		{name: "multicast MAC", key: "10.200.8.0-24", value: record("22:5a:51:d6:4d:07", "ff:ff:ff:ff:ff:ff"), why: "VtepMAC"},
		{name: "no data", key: "10.200.8.0-24", value: `{"PublicIP":"198.18.0.8","BackendType":"vxlan"}`, why: "no BackendData"},
		{name: "other backend", key: "10.200.8.0-24", value: `{"PublicIP":"198.18.0.8","BackendType":"host-gw"}`, why: "BackendType"},
		{name: "other VNI", key: "10.200.8.0-24", value: record(`"VNI":1`, `"VNI":9`), why: "VNI is 9"},
		{name: "no VNI", key: "10.200.8.0-24", value: record(`"VNI":1,`, ``)},
		{name: "IPv6 address", key: "10.200.8.0-24", value: record("198.18.0.7", "fd00::7"), why: "record"},
		{name: "everything", key: "0.0.0.0-0", value: good, why: "not a part of the network"},
		{name: "the whole network", key: "10.200.0.0-16", value: good, why: "not a part of the network"},
		{name: "half the network", key: "10.200.0.0-17", value: good, why: "overlaps"},
		{name: "outside", key: "10.201.8.0-24", value: good, why: "not a part of the network"},
		{name: "mine", key: "10.200.1.0-24", value: good, why: "-"},
		{name: "in mine", key: "10.200.1.128-25", value: good, why: "overlaps 10.200.1.0/24"},
		{name: "my address", key: "10.200.8.0-24", value: record("198.18.0.7", "198.18.0.1"), why: "address of this host"},
		{name: "multicast", key: "10.200.8.0-24", value: record("198.18.0.7", "224.0.0.1"), why: "no host's address"},
		{name: "loopback", key: "10.200.8.0-24", value: record("198.18.0.7", "127.0.0.1"), why: "no host's address"},
		{name: "nobody", key: "10.200.8.0-24", value: record("198.18.0.7", "0.0.0.0"), why: "no host's address"},
		{name: "inside itself", key: "10.200.8.0-24", value: record("198.18.0.7", "10.200.8.1"), why: "lies in the network"},
		{name: "a piece of the good one's", key: "10.200.7.8-30", value: good, why: "overlaps 10.200.7.0/24"},
		{name: "an older piece of the good one's", key: "10.200.7.8-30", value: good, created: 1, why: "overlaps 10.200.7.0/24"},
		{name: "not a key", key: "hello", value: good, why: "not a subnet"},
		{name: "dual stack", key: "10.200.8.0-24&fd00:200:0:56::-64", value: good},
		{name: "fields that nobody knows", key: "10.200.8.0-24", value: record(`"PublicIP"`, `"Colour":"red","PublicIP"`)},
		{name: "a larger reservation", key: "10.200.8.0-22", value: good},
	} {
		t.Run(tt.name, func(t *testing.T) {
			created := tt.created
			if created == 0 {
				created = 20
			}
			entries := []Entry{NewEntry(tt.key, []byte(tt.value), created), NewEntry("10.200.7.0-24", []byte(good), 10)}
			peers, rejected := n.Accept(entries, self)
			if len(peers) == 0 || peers[0].Subnet.String() != "10.200.7.0/24" || peers[0].MAC.String() != "22:5a:51:d6:4d:07" {
				t.Fatalf("the good one is hurt: %v", peers)
			}
			switch {
			case tt.why == "":
				if len(peers) != 2 || len(rejected) != 0 {
					t.Errorf("peers %v, refused %v", peers, rejected)
				}
			case tt.why == "-":
				if len(peers) != 1 || len(rejected) != 0 {
					t.Errorf("peers %v, refused %v", peers, rejected)
				}
			case len(peers) != 1 || len(rejected) != 1 || !strings.Contains(rejected[0].Why.Error(), tt.why):
				t.Errorf("peers %v, refused %v, want %q", peers, rejected, tt.why)
			}
		})
	}
}

// overlay W5: whoever claims first has it, whatever the order in which the records are read.
func TestAcceptOrder(t *testing.T) {
	n := sixteen(Network{Kind: VXLAN, VNI: 1})
	first := NewEntry("10.200.8.0-22", []byte(good), 5)
	second := NewEntry("10.200.10.0-23", []byte(good), 4)
	third := NewEntry("10.200.9.0-24", []byte(good), 9)
	for _, entries := range [][]Entry{{first, second, third}, {third, second, first}, {second, first, third}} {
		peers, rejected := n.Accept(entries, Self{})
		var got []string
		for _, p := range peers {
			got = append(got, p.Subnet.String())
		}
		if diff := cmp.Diff([]string{"10.200.9.0/24", "10.200.10.0/23"}, got); diff != "" {
			t.Error(diff)
		}
		if len(rejected) != 1 || rejected[0].Key != "10.200.8.0-22" {
			t.Errorf("refused %v", rejected)
		}
	}
}

func BenchmarkAccept(b *testing.B) {
	n := Network{Prefix: netip.MustParsePrefix("10.0.0.0/8"), SubnetLen: 24, Kind: VXLAN, VNI: 1}
	var entries []Entry
	for i := range 10_000 {
		value := strings.Replace(good, "198.18.0.7", fmt.Sprintf("198.18.%d.%d", i>>8, i&255), 1)
		entries = append(entries, NewEntry(fmt.Sprintf("10.%d.%d.0-24", i>>8, i&255), []byte(value), int64(i)))
	}
	for b.Loop() {
		if peers, rejected := n.Accept(entries, Self{}); len(peers) != 10_000 {
			b.Fatal(rejected[0])
		}
	}
}
