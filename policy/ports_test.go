package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// published lists the entries as [HOSTIP:]PORT/PROTO -> ADDR:PORT.
func published(r Result) map[string]string {
	out := make(map[string]string)
	for k, v := range r.State.Publish {
		host := HostPorts{Start: bpf.ToPort(k.Port), End: bpf.ToPort(k.Port), Proto: k.Proto}
		if k.Addr != 0 {
			host.HostIP = bpf.ToAddr(k.Addr)
		}
		if ep := r.State.Endpoints[bpf.AddrKey{Addr: v.Addr}]; ep.Id != v.Id {
			out[host.String()] = "another endpoint's id"
			continue
		}
		out[host.String()] = netip.AddrPortFrom(bpf.ToAddr(v.Addr), bpf.ToPort(v.Port)).String()
	}
	return out
}

func user(t testing.TB, list ...string) (out []PublishIntent) {
	for i := 0; i < len(list); i += 2 {
		out = append(out, PublishIntent{Spec: mustParse(t, list[i]), Target: list[i+1]})
	}
	return out
}

func port(host string, hostPort, containerPort uint16, proto uint8) ContainerPort {
	return ContainerPort{HostIP: addr(host), HostPort: hostPort, Port: containerPort, Proto: proto}
}

func TestCompilePorts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Observed)
		user    []PublishIntent
		want    map[string]string
		active  []bool // of the rows
		problem string
	}{
		{"docker's", func(o *Observed) {
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 8080, 80, ProtoTCP), port("::", 8080, 80, ProtoTCP), {}}
		}, nil, map[string]string{"8080/tcp": "172.17.0.2:80"}, []bool{true}, ""},
		{"tcp and udp on one number", func(o *Observed) { // H-9
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 53, 5353, ProtoUDP), port("0.0.0.0", 53, 53, ProtoTCP)}
		}, user(t, "53:9/sctp", "ns1"),
			map[string]string{"53/tcp": "172.17.0.2:53", "53/udp": "172.17.0.2:5353", "53/sctp": "172.17.0.3:9"}, []bool{true, true, true}, ""},
		{"two addresses and all others", func(o *Observed) { // H-6
			o.HostAddrs = append(o.HostAddrs, HostAddr{netip.MustParsePrefix("192.0.2.11/24"), 2})
			o.Containers[0].Ports = []ContainerPort{port("192.0.2.10", 80, 80, ProtoTCP)}
		}, user(t, "192.0.2.11:80:81", "ns1", "80:82", "ns1", "127.0.0.2:80:83", "ns1"),
			map[string]string{"192.0.2.10:80/tcp": "172.17.0.2:80", "192.0.2.11:80/tcp": "172.17.0.3:81", "80/tcp": "172.17.0.3:82",
				"127.0.0.2:80/tcp": "172.17.0.3:83"},
			[]bool{true, true, true, true}, ""},
		{"range", nil, user(t, "8000-8002:9000-9002/udp", "ns1"),
			map[string]string{"8000/udp": "172.17.0.3:9000", "8001/udp": "172.17.0.3:9001", "8002/udp": "172.17.0.3:9002"}, []bool{true}, ""},
		{"to an address", func(o *Observed) { o.Endpoints[1].Addrs = prefixes("172.17.0.3/16", "172.17.0.33/16") },
			user(t, "80:80", "172.17.0.33"), map[string]string{"80/tcp": "172.17.0.33:80"}, []bool{true}, ""},
		{"to an address that moved to another endpoint", func(o *Observed) { o.Endpoints[0].Addrs = prefixes("172.17.0.33/16") },
			user(t, "80:80", "172.17.0.33"), map[string]string{"80/tcp": "172.17.0.33:80"}, []bool{true}, ""},
		{"a container with a new address", func(o *Observed) { // F-12
			o.Endpoints[0].Addrs, o.Endpoints[0].Index = prefixes("172.17.0.9/16"), 44
		}, user(t, "80:80", "web"), map[string]string{"80/tcp": "172.17.0.9:80"}, []bool{true}, ""},
		{"a container that is gone", func(o *Observed) { // H-18
			o.Containers, o.Endpoints = nil, o.Endpoints[1:]
		}, user(t, "80-89:80-89", "web", "90:90", "ns1"), map[string]string{"90/tcp": "172.17.0.3:90"}, []bool{false, true}, ""},
		{"docker's port of a container that has no endpoint yet", func(o *Observed) { // H-18
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}
			o.Endpoints = o.Endpoints[1:]
		}, nil, nil, []bool{false}, ""},
		{"docker's port of a container on another bridge", func(o *Observed) {
			*o = twoBridges()
			o.Containers[1].Ports = []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}
		}, nil, nil, []bool{false}, ""},
		{"routed: docker's are dialled at the container", func(o *Observed) {
			o.Networks[0].Options = map[string]string{optGateway: modeRouted}
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 80, 81, ProtoTCP)}
		}, user(t, "90:91", "ns1"), map[string]string{"172.17.0.2:81/tcp": "172.17.0.2:81", "90/tcp": "172.17.0.3:91", "172.17.0.3:91/tcp": "172.17.0.3:91"},
			[]bool{true, true}, ""},
		{"internal", func(o *Observed) {
			o.Networks[0].Internal = true
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}
		}, user(t, "81:81", "ns1"), nil, []bool{false, false}, ""},
		{"docker's goes before the user's", func(o *Observed) {
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 81, 8081, ProtoTCP)}
		}, user(t, "80-82:80-82", "ns1"),
			map[string]string{"80/tcp": "172.17.0.3:80", "81/tcp": "172.17.0.2:8081", "82/tcp": "172.17.0.3:82"}, []bool{true, true},
			"published port 80-82:80-82/tcp to ns1: 81/tcp is taken by docker for web, which keeps it"},
		{"docker's goes before the user's though it leads nowhere", func(o *Observed) {
			o.Containers = append(o.Containers, Container{ID: "x", Name: "x", NetworkMode: "late", Ports: []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}})
		}, user(t, "80:80", "ns1"), nil, []bool{false, false}, "80/tcp is taken by docker for x"},
		{"the user's earlier goes first", nil, user(t, "80:80", "ns1", "80:81", "web"), map[string]string{"80/tcp": "172.17.0.3:80"},
			[]bool{true, false}, "80/tcp is taken by an earlier publish to ns1"},
		{"every address and one do not conflict", func(o *Observed) { // H-6
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}
		}, user(t, "192.0.2.10:80:81", "ns1"),
			map[string]string{"80/tcp": "172.17.0.2:80", "192.0.2.10:80/tcp": "172.17.0.3:81"}, []bool{true, true}, ""},
		{"an address that the host does not have now", nil, user(t, "192.0.2.99:80:80", "ns1", "192.0.2.99:81:81", "ns1"), // H-7
			map[string]string{"192.0.2.99:80/tcp": "172.17.0.3:80", "192.0.2.99:81/tcp": "172.17.0.3:81"}, []bool{true, true}, "192.0.2.99 is not an address of this host now"},
		{"a container that shares web's network", func(o *Observed) {
			o.Containers = append(o.Containers, Container{ID: "eeee5555", Name: "side", NetworkMode: "container:aaaa1111"})
		}, user(t, "80:80", "side"), map[string]string{"80/tcp": "172.17.0.2:80"}, []bool{true}, ""},
		{"a container of the host's network", func(o *Observed) { // G-13
			o.Containers = append(o.Containers, Container{ID: "x", Name: "x", NetworkMode: "host"})
		}, user(t, "80:80", "x"), nil, []bool{false}, ""},
		{"an endpoint without an address", func(o *Observed) { o.Endpoints[1].Addrs = nil }, user(t, "80:80", "ns1"), nil, []bool{false}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, in := machine(), onDocker0()
			if tc.change != nil {
				tc.change(&o)
			}
			in.Publish = tc.user
			r := Compile(o, in, newIDs())
			if diff := cmp.Diff(tc.want, published(r), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			var active []bool
			for _, p := range r.Ports {
				active = append(active, p.Active)
				if p.Active == (p.Inactive != "") || p.Active != p.Address.IsValid() || p.Target == "" {
					t.Errorf("row %+v", p)
				}
			}
			if diff := cmp.Diff(tc.active, active); diff != "" {
				t.Errorf("active (-want +got)\n%s", diff)
			}
			checkProblem(t, r, tc.problem)
		})
	}
}

// A port stays with its container when that is renamed, also where another takes the name; a container that was made anew is found by name.
func TestCompilePortsOfRenamedContainer(t *testing.T) {
	in := onDocker0()
	in.Publish = user(t, "80:80", "web")
	in.Publish[0].Container = "aaaa1111"
	o := machine()
	o.Containers[0].Name = "old-web"
	o.Containers = append(o.Containers, Container{ID: "bbbb2222", Name: "web", NetworkMode: "bridge",
		Attachments: []Attachment{{NetworkID: "net0", MAC: mac(3)}}})
	r := Compile(o, in, newIDs())
	if diff := cmp.Diff(map[string]string{"80/tcp": "172.17.0.2:80"}, published(r)); diff != "" {
		t.Error(diff)
	}
	if r.Ports[0].Target != "old-web" {
		t.Errorf("target %s", r.Ports[0].Target)
	}
	o.Containers = o.Containers[1:]
	r = Compile(o, in, newIDs())
	if diff := cmp.Diff(map[string]string{"80/tcp": "172.17.0.3:80"}, published(r)); diff != "" {
		t.Error(diff)
	}
}

func TestCompilePortsRows(t *testing.T) {
	o, in := machine(), onDocker0()
	o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 81, 81, ProtoTCP), port("0.0.0.0", 80, 80, ProtoTCP)}
	in.Publish = user(t, "9000-9999:9000-9999", "web", "70:70", "gone")
	r := Compile(o, in, newIDs())
	want := []PortView{
		{Spec: mustParse(t, "80:80"), Source: SourceDocker, Target: "web", Address: addr("172.17.0.2"), Active: true, Endpoint: 1},
		{Spec: mustParse(t, "81:81"), Source: SourceDocker, Target: "web", Address: addr("172.17.0.2"), Active: true, Endpoint: 1},
		{Spec: mustParse(t, "9000-9999:9000-9999"), Source: SourceUser, Target: "web", Address: addr("172.17.0.2"), Active: true, Endpoint: 1},
		{Spec: mustParse(t, "70:70"), Source: SourceUser, Target: "gone", Inactive: "no running container, namespace, veth or address is called gone", Endpoint: -1},
	}
	if diff := cmp.Diff(want, r.Ports, compareAddrs()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	ep, err := r.Endpoint("web")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 2}, ep.Ports); diff != "" {
		t.Errorf("web's ports: %s", diff)
	}
}

// H-12
func TestCompileEveryPort(t *testing.T) {
	in := onDocker0()
	in.Publish = user(t, "1-65535:1-65535", "web", "1-65535:1-65535/udp", "web")
	r := Compile(machine(), in, newIDs())
	if len(r.State.Publish) != 2*65535 {
		t.Errorf("%d entries", len(r.State.Publish))
	}
	for _, p := range []uint16{1, 256, 65535} {
		got := r.State.Publish[publishKey(netip.Addr{}, p, ProtoTCP)]
		if bpf.ToPort(got.Port) != p {
			t.Errorf("port %d leads to %d", p, bpf.ToPort(got.Port))
		}
	}
	if len(r.Ports) != 2 {
		t.Errorf("%d rows", len(r.Ports))
	}
}

// H-12: what a compilation costs.
func BenchmarkCompile(b *testing.B) {
	for _, bc := range []struct {
		name      string
		endpoints int
		publish   []PublishIntent
	}{
		{"1 endpoint, 65535 ports in a range", 1, user(b, "1-65535:1-65535", "c0")},
		{"1000 endpoints, 10000 ports in a range", 1000, user(b, "20000-29999:20000-29999", "c7")},
		{"1000 endpoints, 10000 single ports", 1000, singlePorts(b, 10000, 1000)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			o := crowd(bc.endpoints)
			in := onDocker0()
			in.Publish = bc.publish
			ids := NewIdentities(Result{}.State, Slots{Endpoints: 16384, Bridges: 1024})
			b.ReportAllocs()
			for b.Loop() {
				r := Compile(o, in, ids)
				ids.Settle(r.Turnover)
				if len(r.Problems) > 0 {
					b.Fatal(r.Problems)
				}
			}
		})
	}
}

// crowd is a host with n containers on docker0, called c0, c1 and so on.
func crowd(n int) Observed {
	o := machine()
	o.Endpoints, o.Containers = nil, nil
	for i := range n {
		a := netip.AddrFrom4([4]byte{172, 17, byte(1 + i/256), byte(i)})
		hw := []byte{2, 0x42, 172, 17, byte(1 + i/256), byte(i)}
		id := fmt.Sprintf("%032x%032x", i*7919, i)
		o.Endpoints = append(o.Endpoints, Endpoint{Veth: fmt.Sprintf("veth%d", i), Index: 100 + i, Bridge: docker0, NSID: i, MAC: hw, MTU: 1500,
			Addrs: []netip.Prefix{netip.PrefixFrom(a, 16)}})
		o.Containers = append(o.Containers, Container{ID: id, Name: fmt.Sprintf("c%d", i), NetworkMode: "bridge",
			Attachments: []Attachment{{Network: "bridge", NetworkID: "net0", MAC: hw, Addr: a}}})
	}
	return o
}

func singlePorts(tb testing.TB, n, endpoints int) (out []PublishIntent) {
	for i := range n {
		out = append(out, user(tb, fmt.Sprintf("%d:80", 20000+i), fmt.Sprintf("c%d", i%endpoints))...)
	}
	return out
}
