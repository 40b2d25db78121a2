package policy

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// names lists the endpoints as NAME=ADDR.
func names(r Result) (out []string) {
	for _, ep := range r.Endpoints {
		s := ep.Name + "="
		if a := ep.Addr(); a.IsValid() {
			s += a.String()
		}
		out = append(out, s)
	}
	return out
}

func TestCompileEndpoints(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Observed)
		want    []string
		problem string
	}{
		{"container and namespace", func(*Observed) {}, []string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"two networks", func(o *Observed) { *o = twoBridges() }, // G-13
			[]string{"db=172.18.0.3", "ns1=172.17.0.3", "web=172.17.0.2", "web@br-front=172.18.0.2"}, ""},
		{"the higher priority has the default route", func(o *Observed) {
			*o = twoBridges()
			o.Containers[0].Attachments[1].GwPriority = 1
		}, []string{"db=172.18.0.3", "ns1=172.17.0.3", "web=172.18.0.2", "web@docker0=172.17.0.2"}, ""},
		{"an internal network has no default route", func(o *Observed) {
			*o = twoBridges()
			o.Networks[0].Internal = true
		}, []string{"db=172.18.0.3", "ns1=172.17.0.3", "web=172.18.0.2", "web@docker0=172.17.0.2"}, ""},
		{"no gateway", func(o *Observed) {
			*o = twoBridges()

			o.Containers[0].Attachments[0].Gateway = netip.Addr{}
			o.Containers[0].Attachments[0].GwPriority = 9
		}, []string{"db=172.18.0.3", "ns1=172.17.0.3", "web=172.18.0.2", "web@docker0=172.17.0.2"}, ""},
		{"by address where Docker tells no MAC", func(o *Observed) { o.Containers[0].Attachments[0].MAC = nil },
			[]string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"by address where the MAC was changed", func(o *Observed) { o.Endpoints[0].MAC = mac(0x77) },
			[]string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"by MAC where the address was changed", func(o *Observed) { o.Endpoints[0].Addrs = prefixes("172.17.5.5/16") },
			[]string{"ns1=172.17.0.3", "web=172.17.5.5"}, ""},
		{"renamed", func(o *Observed) { o.Containers[0].Name = "web2" }, []string{"ns1=172.17.0.3", "web2=172.17.0.2"}, ""}, // G-13
		{"without docker", func(o *Observed) { o.Containers, o.Networks = nil, nil }, []string{"ns1=172.17.0.3", "veth1=172.17.0.2"}, ""},
		{"a container of another driver with the same address and MAC", func(o *Observed) { // G-13
			o.Containers[0].Attachments[0].Network, o.Containers[0].Attachments[0].NetworkID = "vlan", "net7"
		}, []string{"ns1=172.17.0.3", "veth1=172.17.0.2"}, ""},
		{"host, none and shared networks", func(o *Observed) { // G-13
			o.Containers = append(o.Containers,
				Container{ID: "cccc3333", Name: "hosted", NetworkMode: "host", Attachments: []Attachment{{Network: "host"}}},
				Container{ID: "dddd4444", Name: "nothing", NetworkMode: "none", Attachments: []Attachment{{Network: "none"}}},
				Container{ID: "eeee5555", Name: "side", NetworkMode: "container:aaaa1111"})
		}, []string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"a namespace that is called as a container is", func(o *Observed) {
			o.Endpoints[1].Namespace = "web"
		}, []string{"web=172.17.0.2", "web@docker0=172.17.0.3"}, ""},
		{"a namespace that is called as a container without an endpoint is", func(o *Observed) {
			o.Containers = append(o.Containers, Container{ID: "cccc3333", Name: "ns1", NetworkMode: "host"})
		}, []string{"ns1@docker0=172.17.0.3", "web=172.17.0.2"}, ""},
		{"a namespace with two veths", func(o *Observed) {
			o.Endpoints = append(o.Endpoints,
				Endpoint{Veth: "veth9", Index: 19, Bridge: docker0, NSID: 2, Namespace: "ns1", MAC: mac(9), Addrs: prefixes("172.17.0.9/16")},
				Endpoint{Veth: "veth8", Index: 18, Bridge: docker0, NSID: 2, Namespace: "ns1", MAC: mac(8), Addrs: prefixes("172.17.0.8/16")})
		}, []string{"ns1=172.17.0.3", "ns1@docker0=172.17.0.8", "ns1@veth9=172.17.0.9", "web=172.17.0.2"}, ""},
		{"one address twice", func(o *Observed) { o.Endpoints[1].Addrs = prefixes("172.17.0.2/16", "172.17.0.4/16") },
			[]string{"ns1=172.17.0.4", "web=172.17.0.2"}, "endpoints web and ns1 have the same address 172.17.0.2: web has it"},
		{"the host's address", func(o *Observed) { o.Endpoints[1].Addrs = prefixes("172.17.0.1/16") },
			[]string{"ns1=", "web=172.17.0.2"}, "endpoint ns1 has the address 172.17.0.1, which is the host's own"},
		{"an address outside the subnet", func(o *Observed) { o.Endpoints[1].Addrs = prefixes("10.0.0.1/8", "172.17.0.3/16") },
			[]string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"IPv6", func(o *Observed) { o.Endpoints[1].Addrs = prefixes("fe80::1/64", "172.17.0.3/16") },
			[]string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"no address", func(o *Observed) { o.Endpoints[1].Addrs = nil }, []string{"ns1=", "web=172.17.0.2"}, ""},
		{"no MAC", func(o *Observed) { o.Endpoints[1].MAC = nil }, []string{"ns1=", "web=172.17.0.2"}, ""},
		{"an address added by hand comes after Docker's", func(o *Observed) {
			o.Endpoints[0].Addrs = prefixes("172.17.7.7/16", "172.17.0.2/16")
		}, []string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"an older namespace with a container's MAC", func(o *Observed) { o.Endpoints[1].MAC, o.Endpoints[1].Index = mac(2), 7 },
			[]string{"ns1=172.17.0.3", "web=172.17.0.2"}, ""},
		{"two containers with one MAC", func(o *Observed) {
			o.Endpoints[1].MAC = mac(2)
			o.Containers = append(o.Containers, Container{ID: "cccc3333", Name: "xeb", NetworkMode: "bridge",
				Attachments: []Attachment{{Network: "bridge", NetworkID: "net0", MAC: mac(2)}}})
		}, []string{"web=172.17.0.2", "xeb=172.17.0.3"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := machine()
			tc.change(&o)
			in := onDocker0()
			if len(o.Bridges) > 1 {
				in = all()
			}
			r := Compile(o, in, newIDs())
			if diff := cmp.Diff(tc.want, names(r)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			checkProblem(t, r, tc.problem)
			// Every row is in the maps, and nothing else is.
			if len(r.State.Veths) != len(r.Endpoints) {
				t.Errorf("%d veths, %d rows", len(r.State.Veths), len(r.Endpoints))
			}
			rows := make(map[bpf.AddrKey]uint32)
			for _, ep := range r.Endpoints {
				for _, a := range ep.Addrs {
					rows[bpf.AddrKey{Addr: bpf.Addr(a)}] = ep.ID
				}
			}
			entries := make(map[bpf.AddrKey]uint32)
			for k, ep := range r.State.Endpoints {
				entries[k] = ep.Id
			}
			if diff := cmp.Diff(rows, entries); diff != "" {
				t.Errorf("(-rows +entries)\n%s", diff)
			}
		})
	}
}

func TestCompileEndpointView(t *testing.T) {
	o := twoBridges()
	o.Containers[0].Labels = map[string]string{"app": "web"}
	o.Containers = append(o.Containers,
		Container{ID: "eeee5555", Name: "side", NetworkMode: "container:aaaa1111"},
		Container{ID: "ffff6666", Name: "log", NetworkMode: "container:side"})
	r := Compile(o, all(), newIDs())
	got, err := r.Endpoint("web")
	if err != nil {
		t.Fatal(err)
	}
	want := &EndpointView{
		Identity: Identity{Index: 11, ID: 1, Slot: 0}, Name: "web", Container: "web", ContainerID: "aaaa1111",
		Labels: map[string]string{"app": "web"}, Shared: []string{"log", "side"}, Main: true, Network: "bridge",
		Bridge: "docker0", BridgeIndex: docker0, Addrs: addrs("172.17.0.2"), MAC: net.HardwareAddr{2, 0x42, 0, 0, 0, 2},
		Veth: "veth1", PeerName: "eth0", PeerIndex: 10,
	}
	if diff := cmp.Diff(want, got, compareAddrs(), cmpopts.IgnoreUnexported(EndpointView{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	other, err := r.Endpoint("web@br-front")
	if err != nil || other.Main || other.Container != "web" || other.Network != "front" {
		t.Errorf("%+v, %v", other, err)
	}
}

func TestResultEndpoint(t *testing.T) {
	o := twoBridges()
	o.Endpoints[1].Namespace = "cafe0" // also how an id begins
	o.Containers = append(o.Containers,
		Container{ID: "cafe0001", Name: "one", NetworkMode: "host"},
		Container{ID: "cafe0002", Name: "two", NetworkMode: "none"},
		Container{ID: "eeee5555", Name: "side", NetworkMode: "container:aaaa1111"},
		Container{ID: "eeee6666", Name: "orphan", NetworkMode: "container:0123"},
		Container{ID: "9999aaaa", Name: "vlan", NetworkMode: "vlan", Attachments: []Attachment{{Network: "vlan", NetworkID: "net7"}}},
		Container{ID: "9999bbbb", Name: "elsewhere", NetworkMode: "late", Attachments: []Attachment{{Network: "late", NetworkID: "net9"}}},
		Container{ID: "9999cccc", Name: "starting", NetworkMode: "front", Attachments: []Attachment{{Network: "front", NetworkID: "net1"}}})
	o.Networks = append(o.Networks, Network{ID: "net9", Name: "late", Bridge: "br-late"})
	r := Compile(o, all(), newIDs())
	for _, tc := range []struct{ in, want, err string }{
		{in: "web", want: "web"},
		{in: "/web", want: "web"},
		{in: "web@br-front", want: "web@br-front"},
		{in: "side", want: "web"},
		{in: "aaaa1111", want: "web"},
		{in: "aaaa", want: "web"},
		{in: "aaa", err: "no running container, namespace, veth or address is called aaa"},
		{in: "bbbb2", want: "db"},
		{in: "cafe0", want: "cafe0"},
		{in: "cafe", err: "cafe begins the ids of 2 containers: one, two"},
		{in: "cafe0001", err: "container one uses the host's network: it has no endpoint"},
		{in: "two", err: "container two has no network: it has no endpoint"},
		{in: "orphan", err: "container orphan shares the network of a container that does not run: it has no endpoint"},
		{in: "vlan", err: "container vlan is in no bridge network: it has no endpoint"},
		{in: "elsewhere", err: "container elsewhere is on no attached bridge: run `ebpfnet attach --bridge br-late`: it has no endpoint"},
		{in: "starting", err: "container starting is not on its bridge yet: it has no endpoint"},
		{in: "veth3", want: "web@br-front"},
		{in: "172.17.0.2", want: "web"},
		{in: "172.18.0.2", want: "web@br-front"},
		{in: "172.17.0.99", err: "no endpoint has the address 172.17.0.99"},
		{in: "", err: "no running container, namespace, veth or address is called "},
	} {
		t.Run(tc.in, func(t *testing.T) {
			ep, err := r.Endpoint(tc.in)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error = %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ep.Name != tc.want {
				t.Errorf("got %s, want %s", ep.Name, tc.want)
			}
		})
	}
}

// A container that joins a namespace in a circle has no owner, and compiling ends.
func TestCompileSharedCircle(t *testing.T) {
	o := machine()
	o.Containers = append(o.Containers, Container{ID: "c1", Name: "x", NetworkMode: "container:c2"},
		Container{ID: "c2", Name: "y", NetworkMode: "container:c1"})
	r := Compile(o, onDocker0(), newIDs())
	if got := names(r); !slices.Equal(got, []string{"ns1=172.17.0.3", "web=172.17.0.2"}) {
		t.Errorf("%q", got)
	}
}

func TestCompileEndpointsFull(t *testing.T) {
	r := Compile(machine(), onDocker0(), NewIdentities(Result{}.State, Slots{Endpoints: 1, Bridges: 1}))
	checkProblem(t, r, "there is room for 1 endpoints: raise the setting endpoints")
	if len(r.State.Veths) != 1 || len(r.Endpoints) != 1 {
		t.Errorf("%+v", r.State.Veths)
	}
	r = Compile(twoBridges(), all(), NewIdentities(Result{}.State, Slots{Endpoints: 9, Bridges: 1}))
	checkProblem(t, r, "bridge br-front is not attached: there is room for 1 bridges")
}
