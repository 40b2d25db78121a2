package policy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// The machine that most tests look at: docker0 (ifindex 3) and a user-defined network front (4) under two uplinks.
const (
	docker0 = 3
	front   = 4
	back    = 5
)

func mac(last byte) net.HardwareAddr {
	return net.HardwareAddr{2, 0x42, 0, 0, 0, last}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr {
	return netip.MustParseAddr(s)
}

func key(s string) bpf.AddrKey {
	return bpf.AddrKey{Addr: bpf.Addr(addr(s))}
}

func prefixKey(s string) bpf.PrefixKey {
	p := netip.MustParsePrefix(s)
	return bpf.PrefixKey{Prefixlen: uint32(p.Bits()), Addr: bpf.Addr(p.Addr())}
}

func newIDs() *Identities {
	return NewIdentities(maps.State{}, Slots{Endpoints: 1024, Bridges: 64})
}

func onDocker0() Intent {
	return Intent{Bridges: []BridgeIntent{{Name: "docker0", Mode: "auto"}}}
}

// machine is a host with docker0, one uplink, the container web at 172.17.0.2 and the plain namespace ns1 at 172.17.0.3.
func machine() Observed {
	return Observed{
		Bridges: []Bridge{{Name: "docker0", Index: docker0, MAC: mac(0xd0), MTU: 1500, Addrs: prefixes("172.17.0.1/16")}},
		Uplinks: []Uplink{{Name: "eth0", Index: 2, MTU: 1500, Addrs: prefixes("192.0.2.10/24"), DefaultRoute: true, Ethernet: true}},
		HostAddrs: []HostAddr{{netip.MustParsePrefix("127.0.0.1/8"), 1}, {netip.MustParsePrefix("192.0.2.10/24"), 2},
			{netip.MustParsePrefix("172.17.0.1/16"), docker0}},
		Endpoints: []Endpoint{
			{Veth: "veth1", Index: 11, Bridge: docker0, NSID: 1, PeerName: "eth0", PeerIndex: 10, MAC: mac(2), MTU: 1500,
				Addrs: prefixes("172.17.0.2/16")},
			{Veth: "veth2", Index: 12, Bridge: docker0, NSID: 2, Namespace: "ns1", PeerName: "eth0", PeerIndex: 2, MAC: mac(3), MTU: 1400,
				Addrs: prefixes("172.17.0.3/16")},
		},
		Containers: []Container{{ID: "aaaa1111", Name: "web", NetworkMode: "bridge",
			Attachments: []Attachment{{Network: "bridge", NetworkID: "net0", MAC: mac(2), Addr: addr("172.17.0.2"), Gateway: addr("172.17.0.1")}}}},
		Networks: []Network{{ID: "net0", Name: "bridge", Bridge: "docker0", Subnets: prefixes("172.17.0.0/16")}},
	}
}

// twoBridges adds to machine the network front, on which are db and the second endpoint of web.
func twoBridges() Observed {
	o := machine()
	o.Bridges = append(o.Bridges, Bridge{Name: "br-front", Index: front, MAC: mac(0xd1), MTU: 1500, Addrs: prefixes("172.18.0.1/16")})
	o.HostAddrs = append(o.HostAddrs, HostAddr{netip.MustParsePrefix("172.18.0.1/16"), front})
	o.Networks = append(o.Networks, Network{ID: "net1", Name: "front", Bridge: "br-front"})
	o.Endpoints = append(o.Endpoints,
		Endpoint{Veth: "veth3", Index: 13, Bridge: front, NSID: 1, PeerName: "eth1", MAC: mac(4), MTU: 1500, Addrs: prefixes("172.18.0.2/16")},
		Endpoint{Veth: "veth4", Index: 14, Bridge: front, NSID: 3, PeerName: "eth0", MAC: mac(5), MTU: 1500, Addrs: prefixes("172.18.0.3/16")})
	o.Containers[0].Attachments = append(o.Containers[0].Attachments,
		Attachment{Network: "front", NetworkID: "net1", MAC: mac(4), Addr: addr("172.18.0.2"), Gateway: addr("172.18.0.1")})
	o.Containers = append(o.Containers, Container{ID: "bbbb2222", Name: "db", NetworkMode: "front",
		Attachments: []Attachment{{Network: "front", NetworkID: "net1", MAC: mac(5), Addr: addr("172.18.0.3"), Gateway: addr("172.18.0.1")}}})
	return o
}

func all() Intent {
	return Intent{All: true, AllMode: "auto"}
}

func TestCompileState(t *testing.T) {
	r := Compile(machine(), onDocker0(), newIDs())
	want := maps.State{
		Bridges: map[uint32]bpf.Bridge{docker0: {Addr: bpf.Addr(addr("172.17.0.1")), Flags: bpf.DatapathBridgeFlagBRIDGE_MASQUERADE |
			bpf.DatapathBridgeFlagBRIDGE_ICC, Mac: [6]byte(mac(0xd0)), Mtu: 1500}},
		Veths: map[uint32]bpf.Veth{11: {Bridge: docker0, Id: 1, Slot: 0, Mac: [6]byte(mac(2))}, 12: {Bridge: docker0, Id: 2, Slot: 1, Mac: [6]byte(mac(3))}},
		Endpoints: map[bpf.AddrKey]bpf.Endpoint{
			key("172.17.0.2"): {Id: 1, Ifindex: 11, Bridge: docker0, Slot: 0, Mtu: 1500, Mac: [6]byte(mac(2))},
			key("172.17.0.3"): {Id: 2, Ifindex: 12, Bridge: docker0, Slot: 1, Mtu: 1400, Mac: [6]byte(mac(3))},
		},
		Uplinks: map[uint32]bpf.Uplink{2: {Mtu: 1500, Naddrs: 1, Addrs: [8]uint32{bpf.Addr(addr("192.0.2.10"))},
			Masks: [8]uint32{bpf.Addr(addr("255.255.255.0"))}}},
		// E-14: the host's own addresses and the subnets are what is not masqueraded towards
		HostAddrs: map[bpf.AddrKey]bpf.HostAddr{key("127.0.0.1"): {Ifindex: 1}, key("192.0.2.10"): {Ifindex: 2}, key("172.17.0.1"): {Ifindex: docker0}},
		Subnets:   map[bpf.PrefixKey]bpf.Subnet{prefixKey("172.17.0.0/16"): {Bridge: docker0}},
		NextID:    3,
	}
	if diff := cmp.Diff(want, r.State, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(r.Problems) > 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	b := r.Bridges[0]
	if b.Name != "docker0" || !b.Attached || b.Endpoints != 2 || b.Network != "bridge" || b.Mode != "native" || len(b.Subnets) != 1 {
		t.Errorf("bridge: %+v", b)
	}
	if u := r.Uplinks[0]; u.Name != "eth0" || !u.Attached || u.Address != addr("192.0.2.10") {
		t.Errorf("uplink: %+v", u)
	}
}

func TestCompileDoesNotDependOnOrder(t *testing.T) {
	a, b := twoBridges(), twoBridges()
	for i, j := 0, len(b.Endpoints)-1; i < j; i, j = i+1, j-1 {
		b.Endpoints[i], b.Endpoints[j] = b.Endpoints[j], b.Endpoints[i]
	}
	b.Bridges[0], b.Bridges[1] = b.Bridges[1], b.Bridges[0]
	b.Containers[0], b.Containers[1] = b.Containers[1], b.Containers[0]
	ra, rb := Compile(a, all(), newIDs()), Compile(b, all(), newIDs())
	ignore := cmpopts.IgnoreUnexported(Result{}, EndpointView{})
	if diff := cmp.Diff(ra, rb, compareAddrs(), ignore); diff != "" {
		t.Error(diff)
	}
}

func TestCompileBridges(t *testing.T) {
	flags := func(r Result, index uint32) bpf.BridgeFlag { return r.State.Bridges[index].Flags }
	const normal = bpf.DatapathBridgeFlagBRIDGE_MASQUERADE | bpf.DatapathBridgeFlagBRIDGE_ICC
	option := func(name, value string) func(*Observed, *Intent) {
		return func(o *Observed, _ *Intent) { o.Networks[0].Options = map[string]string{name: value} }
	}
	for _, tc := range []struct {
		name    string
		change  func(*Observed, *Intent)
		check   func(Result) bool
		problem string
	}{
		{"masquerade off", option(optMasquerade, "false"),
			func(r Result) bool { return flags(r, docker0) == bpf.DatapathBridgeFlagBRIDGE_ICC }, ""},
		{"masquerade off, said by an engine that writes no rules", func(o *Observed, _ *Intent) {
			o.Networks[0].Options = map[string]string{optMasquerade: "false", optDefault: "true"}
		},
			func(r Result) bool { return flags(r, docker0) == normal }, ""},
		{"masquerade off on the default bridge", func(o *Observed, _ *Intent) {
			o.Networks[0].Options = map[string]string{optMasquerade: "false", optDefault: "true"}
			o.Bridges[0].DockerRules = true
		},
			func(r Result) bool {
				return flags(r, docker0) == bpf.DatapathBridgeFlagBRIDGE_ICC|bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES
			}, ""},
		{"masquerade on", option(optMasquerade, "true"), func(r Result) bool { return flags(r, docker0) == normal }, ""},
		{"icc off", option(optICC, "false"),
			func(r Result) bool { return flags(r, docker0) == bpf.DatapathBridgeFlagBRIDGE_MASQUERADE }, ""},
		{"routed", option(optGateway, "routed"),
			func(r Result) bool {
				b := r.State.Bridges[docker0]
				return b.Flags == bpf.DatapathBridgeFlagBRIDGE_ICC && b.Direct == bpf.DatapathDirectFlagDIRECT_PUBLISHED|bpf.DatapathDirectFlagDIRECT_ECHO
			}, ""},
		{"nat-unprotected", option(optGateway, "nat-unprotected"),
			func(r Result) bool {
				b := r.State.Bridges[docker0]
				return b.Flags == normal && b.Direct == bpf.DatapathDirectFlagDIRECT_ALL|bpf.DatapathDirectFlagDIRECT_ECHO
			}, ""},
		{"published on one address", option(optBinding, "192.0.2.10"),
			func(r Result) bool {
				target, err := r.PickTarget(PublishSpec{HostPort: 80, HostEnd: 80, Port: 80, End: 80, Proto: ProtoTCP}, "web")
				return err == nil && target.Intent.Spec.String() == "192.0.2.10:80:80/tcp"
			}, ""},
		{"trusted devices", option(optTrusted, "eth0:wg0"),
			func(r Result) bool { return r.State.Bridges[docker0].Trusted == [4]uint32{2} }, "trusts the device wg0"},
		{"internal", func(o *Observed, _ *Intent) { o.Networks[0].Internal = true },
			func(r Result) bool { return flags(r, docker0) == normal|bpf.DatapathBridgeFlagBRIDGE_INTERNAL }, ""},
		{"fails closed", func(_ *Observed, in *Intent) { in.Bridges[0].FailClosed = true },
			func(r Result) bool {
				return flags(r, docker0) == normal|bpf.DatapathBridgeFlagBRIDGE_CLOSED && r.Bridges[0].FailClosed
			}, ""},
		{"spoofing allowed", func(_ *Observed, in *Intent) { in.Bridges[0].Spoofing = true },
			func(r Result) bool {
				return flags(r, docker0) == normal|bpf.DatapathBridgeFlagBRIDGE_SPOOFING && r.Bridges[0].Spoofing
			}, ""},
		{"all fail closed, but for one of them by name", func(o *Observed, in *Intent) {
			*o, *in = twoBridges(), Intent{All: true, AllFailClosed: true, Bridges: []BridgeIntent{{Name: "docker0"}}}
		}, func(r Result) bool {
			return flags(r, docker0) == normal && flags(r, front) == normal|bpf.DatapathBridgeFlagBRIDGE_CLOSED
		}, ""},
		{"docker's rules", func(o *Observed, _ *Intent) { o.Bridges[0].DockerRules = true },
			func(r Result) bool {
				return flags(r, docker0) == normal|bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES && r.Bridges[0].Docker
			}, ""},
		{"no docker", func(o *Observed, _ *Intent) { o.Networks, o.Containers = nil, nil },
			func(r Result) bool {
				return flags(r, docker0) == normal && r.Bridges[0].Network == "" && len(r.Endpoints) == 2
			}, ""},
		{"leave with an address of the host", option(optHostIPv4, "192.0.2.10"), // E-12
			func(r Result) bool { return r.State.Bridges[docker0].Masquerade == bpf.Addr(addr("192.0.2.10")) }, ""},
		{"leave with an address that is not the host's", option(optHostIPv4, "192.0.2.99"),
			func(r Result) bool { return r.State.Bridges[docker0].Masquerade == 0 }, "not an address of this host"},
		{"leave with something that is no address", option(optHostIPv4, "eth0"),
			func(r Result) bool { return r.State.Bridges[docker0].Masquerade == 0 }, "not an IPv4 address"},
		{"absent", func(_ *Observed, in *Intent) {
			in.Bridges = append(in.Bridges, BridgeIntent{Name: "br9", Mode: "native"})
		},
			func(r Result) bool {
				return len(r.State.Bridges) == 1 && !r.Bridges[0].Attached && strings.Contains(r.Bridges[0].Why, "waiting") &&
					r.Bridges[0].Mode == "native" && r.Bridges[1].Attached
			}, ""},
		{"no address", func(o *Observed, _ *Intent) { o.Bridges[0].Addrs = prefixes("fe80::1/64") },
			func(r Result) bool {
				return len(r.State.Bridges) == 0 && len(r.State.Veths) == 0 && !r.Bridges[0].Attached
			}, "bridge docker0 has no IPv4 address"},
		{"two addresses", func(o *Observed, _ *Intent) {
			o.Bridges[0].Addrs = prefixes("172.17.0.1/16", "10.9.0.1/24", "10.9.0.2/24")
		},
			func(r Result) bool {
				return r.State.Bridges[docker0].Addr == bpf.Addr(addr("172.17.0.1")) && len(r.State.Subnets) == 2 && len(r.Bridges[0].Subnets) == 2
			}, ""},
		{"somebody's rules", func(o *Observed, in *Intent) {
			o.ForeignRules, in.Bridges[0].Mode = []string{"filter FORWARD: -j DROP"}, "native"
		},
			func(r Result) bool { return flags(r, docker0)&bpf.DatapathBridgeFlagBRIDGE_FILTERED != 0 }, ""},
		{"rules that cannot be read", func(o *Observed, in *Intent) { o.RulesUnknown, in.Bridges[0].Mode = "no permission", "native" },
			func(r Result) bool { return flags(r, docker0)&bpf.DatapathBridgeFlagBRIDGE_FILTERED != 0 }, ""},
		{"jumbo", func(o *Observed, _ *Intent) { o.Bridges[0].MTU = 65536 },
			func(r Result) bool { return r.State.Bridges[docker0].Mtu == 65535 }, ""},
		{"another bridge is not attached", func(o *Observed, _ *Intent) { *o = twoBridges() },
			func(r Result) bool {
				return len(r.State.Bridges) == 1 && len(r.State.Veths) == 2 && len(r.State.Subnets) == 1
			}, ""},
		{"all", func(o *Observed, in *Intent) { *o, *in = twoBridges(), all() },
			func(r Result) bool {
				return len(r.State.Bridges) == 2 && len(r.State.Veths) == 4 && len(r.State.Subnets) == 2
			}, ""},
		{"all but swarm's and plain bridges", func(o *Observed, in *Intent) {
			*o, *in = twoBridges(), all()
			o.Networks[1].Name, o.Networks[1].Bridge, o.Bridges[1].Name = "docker_gwbridge", "docker_gwbridge", "docker_gwbridge"
			o.Bridges = append(o.Bridges, Bridge{Name: "virbr0", Index: 9, Addrs: prefixes("192.168.122.1/24")})
		}, func(r Result) bool { return len(r.State.Bridges) == 1 && len(r.Bridges) == 1 }, ""},
		{"swarm's by name", func(o *Observed, in *Intent) {
			*o = twoBridges()
			o.Networks[1].Name, o.Networks[1].Bridge, o.Bridges[1].Name = "docker_gwbridge", "docker_gwbridge", "docker_gwbridge"
			in.Bridges = []BridgeIntent{{Name: "docker_gwbridge"}}
		}, func(r Result) bool {
			return len(r.State.Bridges) == 1 && r.Bridges[0].Attached && r.Bridges[0].Mode == "native"
		}, ""},
		{"all, one of them by name with a mode", func(o *Observed, in *Intent) {
			*o, *in = twoBridges(), Intent{All: true, AllMode: "auto", Bridges: []BridgeIntent{{Name: "docker0", Mode: "native"}}}
		}, func(r Result) bool {
			return len(r.Bridges) == 2 && r.Bridges[0].Mode == "native" && r.Bridges[1].Mode == "native"
		}, ""},
		{"all while a network has no bridge yet", func(o *Observed, in *Intent) {
			*in = all()
			o.Networks = append(o.Networks, Network{ID: "net9", Name: "late", Bridge: "br-late"})
		}, func(r Result) bool { return len(r.Bridges) == 1 }, ""},
		{"one subnet on two bridges", func(o *Observed, in *Intent) {
			*o, *in = twoBridges(), all()
			o.Bridges[1].Addrs = prefixes("172.17.0.9/16")
		}, func(r Result) bool {
			return r.State.Subnets[prefixKey("172.17.0.0/16")].Bridge == docker0 && len(r.State.Subnets) == 1
		}, "bridges docker0 and br-front have the same subnet 172.17.0.0/16: docker0 has it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, in := machine(), onDocker0()
			tc.change(&o, &in)
			r := Compile(o, in, newIDs())
			if !tc.check(r) {
				t.Errorf("bridges: %+v\nstate: %+v", r.Bridges, r.State)
			}
			checkProblem(t, r, tc.problem)
		})
	}
}

// checkProblem wants one problem that contains the text, or none at all.
func checkProblem(t *testing.T, r Result, want string) {
	t.Helper()
	if want == "" && len(r.Problems) > 0 || want != "" && len(r.Problems) != 1 {
		t.Fatalf("problems: %q, want %q", r.Problems, want)
	}
	if want != "" && !strings.Contains(r.Problems[0], want) {
		t.Errorf("problem: %q, want it to contain %q", r.Problems[0], want)
	}
	for _, p := range r.Problems {
		if strings.Contains(p, "\n") {
			t.Errorf("problem has more than one line: %q", p)
		}
	}
}

func TestCompileUplinks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Observed, *Intent)
		want    []uint32
		views   int
		problem string
	}{
		{"by default route", func(o *Observed, _ *Intent) {
			o.Uplinks = append(o.Uplinks, Uplink{Name: "eth1", Index: 8, Ethernet: true, Addrs: prefixes("198.51.100.1/24")})
		}, []uint32{2}, 1, ""},
		{"two default routes", func(o *Observed, _ *Intent) { // E-12
			o.Uplinks = append(o.Uplinks, Uplink{Name: "eth1", Index: 8, Ethernet: true, DefaultRoute: true, Addrs: prefixes("198.51.100.1/24")})
		}, []uint32{2, 8}, 2, ""},
		{"by name", func(o *Observed, in *Intent) {
			o.Uplinks = append(o.Uplinks, Uplink{Name: "eth1", Index: 8, Ethernet: true})
			in.Uplinks = []string{"eth1", "eth1"}
		}, []uint32{8}, 1, ""},
		{"a name that is not there", func(_ *Observed, in *Intent) { in.Uplinks = []string{"eth7", "eth0"} }, []uint32{2}, 2, ""},
		{"no default route", func(o *Observed, _ *Intent) {
			o.Uplinks[0].DefaultRoute = false
			o.Uplinks = append(o.Uplinks,
				Uplink{Name: "eth1", Index: 8, Ethernet: true, Addrs: prefixes("198.51.100.1/24")},
				Uplink{Name: "eth2", Index: 9, Ethernet: true},
				Uplink{Name: "lo", Index: 1, Ethernet: true, Addrs: prefixes("127.0.0.1/8")},
				Uplink{Name: "docker0", Index: docker0, Ethernet: true, Addrs: prefixes("172.17.0.1/16")},
				Uplink{Name: "virbr0", Index: 7, Ethernet: true, Bridge: true, Addrs: prefixes("192.168.122.1/24")},
				Uplink{Name: "br-front", Index: front, Ethernet: true, Addrs: prefixes("172.18.0.1/16")})
			o.Networks = append(o.Networks, Network{ID: "net1", Name: "front", Bridge: "br-front"})
		}, []uint32{2, 8}, 2, ""},
		{"a bridge by name", func(o *Observed, in *Intent) { // I-6
			o.Uplinks = append(o.Uplinks, Uplink{Name: "brwan", Index: 8, Ethernet: true, Bridge: true, Addrs: prefixes("198.51.100.1/24")})
			in.Uplinks = []string{"brwan"}
		}, []uint32{8}, 1, ""},
		{"no link-layer header", func(o *Observed, _ *Intent) {
			o.Uplinks = append(o.Uplinks, Uplink{Name: "wg0", Index: 8, DefaultRoute: true, Addrs: prefixes("10.1.0.1/24")})
		}, []uint32{2}, 2, "uplink wg0 has no link-layer header"},
		{"an attached bridge", func(_ *Observed, in *Intent) { in.Uplinks = []string{"docker0"} }, nil, 1, ""},
		{"an attached bridge that could be one", func(o *Observed, in *Intent) {
			o.Uplinks = append(o.Uplinks, Uplink{Name: "docker0", Index: docker0, Ethernet: true, Addrs: prefixes("172.17.0.1/16")})
			in.Uplinks = []string{"docker0"}
		}, nil, 1, "uplink docker0 is an attached bridge too"},
		{"no address", func(o *Observed, _ *Intent) { o.Uplinks[0].Addrs = nil }, []uint32{2}, 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, in := machine(), onDocker0()
			tc.change(&o, &in)
			r := Compile(o, in, newIDs())
			got := make(map[uint32]bool)
			for index := range r.State.Uplinks {
				got[index] = true
			}
			want := make(map[uint32]bool)
			for _, index := range tc.want {
				want[index] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(r.Uplinks) != tc.views {
				t.Errorf("%d rows, want %d: %+v", len(r.Uplinks), tc.views, r.Uplinks)
			}
			checkProblem(t, r, tc.problem)
		})
	}
}

// E-12: an uplink's addresses and masks, primary first, as many as there is room for.
func TestCompileUplinkAddrs(t *testing.T) {
	o := machine()
	o.Uplinks[0].Addrs = prefixes("fe80::1/64", "192.0.2.10/24")
	for i := range 10 {
		o.Uplinks[0].Addrs = append(o.Uplinks[0].Addrs, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/%d", i, 20+i)))
	}
	u := Compile(o, onDocker0(), newIDs()).State.Uplinks[2]
	if u.Naddrs != 8 || bpf.ToAddr(u.Addrs[0]) != addr("192.0.2.10") || bpf.ToAddr(u.Addrs[7]) != addr("198.51.100.6") ||
		bpf.ToAddr(u.Masks[0]) != addr("255.255.255.0") || bpf.ToAddr(u.Masks[7]) != addr("255.255.255.192") {
		t.Errorf("%+v", u)
	}
	for bits, want := range map[int]string{0: "0.0.0.0", 1: "128.0.0.0", 32: "255.255.255.255"} {
		if got := bpf.ToAddr(netmask(bits)); got != addr(want) {
			t.Errorf("netmask(%d) = %s, want %s", bits, got, want)
		}
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, addr(s))
	}
	return out
}
