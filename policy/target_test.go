package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPickTarget(t *testing.T) {
	one := func(o *Observed) { o.Endpoints = o.Endpoints[:1] }
	three := func(o *Observed) {
		*o = twoBridges()
		o.Containers[0].Exposed = []PortProto{{80, ProtoTCP}, {443, ProtoTCP}, {53, ProtoUDP}}
		o.Containers[1].Exposed = []PortProto{{5432, ProtoTCP}, {443, ProtoTCP}}
		o.Containers = append(o.Containers,
			Container{ID: "cccc0001", Name: "hosted", NetworkMode: "host"},
			Container{ID: "cccc0002", Name: "lonely", NetworkMode: "none"},
			Container{ID: "eeee5555", Name: "side", NetworkMode: "container:aaaa1111", Exposed: []PortProto{{9100, ProtoTCP}}},
			Container{ID: "eeee6666", Name: "hostside", NetworkMode: "container:cccc0001"})
	}
	internal := func(o *Observed) {
		three(o)
		o.Networks[1].Internal = true
	}
	for _, tc := range []struct {
		name                  string
		change                func(*Observed)
		spec, target          string
		want, container, addr string // Intent.Target, Intent.Container, Address
		err                   string
	}{
		{name: "the only endpoint", change: one, spec: "80:80", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "the only one that exposes it", change: three, spec: "8080:80", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "the only one that exposes it, by protocol", change: three, spec: "53:53/udp", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "nobody exposes it with that protocol", change: three, spec: "53:53", err: "none of them exposes 53/tcp: name one of db, ns1, web"},
		{name: "two expose it", change: three, spec: "443:443", err: "which endpoint? 2 can be meant and all of them expose 443/tcp: name one of db, web"},
		{name: "nobody exposes the whole range", change: three, spec: "80-81:80-81", err: "3 can be meant and none of them exposes 80-81/tcp: name one of db, ns1, web"},
		{name: "exposed by one that shares the network", change: three, spec: "9100:9100", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "an internal network does not count", change: internal, spec: "443:443", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "nobody at all", change: func(o *Observed) { o.Endpoints = nil }, spec: "80:80", err: "there is no endpoint to publish to"},
		{name: "no bridge", change: func(o *Observed) { o.Bridges = nil }, spec: "80:80", target: "web", err: "no bridge is attached"},
		{name: "by container", change: three, spec: "80:80", target: "db", want: "db", container: "bbbb2222", addr: "172.18.0.3"},
		{name: "by id", change: three, spec: "80:80", target: "bbbb", want: "db", container: "bbbb2222", addr: "172.18.0.3"},
		{name: "by namespace", change: three, spec: "80:80", target: "ns1", want: "ns1", addr: "172.17.0.3"},
		{name: "by veth", change: three, spec: "80:80", target: "veth4", want: "veth4", addr: "172.18.0.3"},
		{name: "by address", change: three, spec: "80:80", target: "172.18.0.2", want: "172.18.0.2", addr: "172.18.0.2"},
		{name: "by endpoint", change: three, spec: "80:80", target: "web@br-front", want: "web@br-front", addr: "172.18.0.2"},
		{name: "shared network", change: three, spec: "80:80", target: "side", want: "web", container: "aaaa1111", addr: "172.17.0.2"},
		{name: "host network", change: three, spec: "80:80", target: "hosted",
			err: "publish 80:80/tcp: hosted uses the host's network: its ports are already the host's; nothing to publish"},
		{name: "host network shared", change: three, spec: "80:80", target: "hostside", err: "hostside uses the host's network"},
		{name: "no network", change: three, spec: "80:80", target: "lonely", err: "publish 80:80/tcp: lonely has no network"},
		{name: "unknown", change: three, spec: "80:80", target: "nobody", err: "no running container, namespace, veth or address is called nobody"},
		{name: "ambiguous", change: three, spec: "80:80", target: "cccc", err: "cccc begins the ids of 2 containers: hosted, lonely"},
		{name: "unknown address", change: three, spec: "80:80", target: "172.17.0.77", err: "no endpoint has the address 172.17.0.77"},
		{name: "internal", change: internal, spec: "80:80", target: "db", err: "db cannot be reached from outside: network front is internal"},
		{name: "no address", change: func(o *Observed) { o.Endpoints[1].Addrs = nil }, spec: "80:80", target: "ns1",
			err: "ns1 cannot be reached: it has no IPv4 address of bridge docker0"},
		{name: "not attached", change: func(o *Observed) {
			three(o)
			o.Networks[1].Bridge = "br-other"
		}, spec: "80:80", target: "db", err: "db is on no attached bridge: run `ebpfnet attach --bridge br-other`"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, in := machine(), Intent{All: true, Bridges: []BridgeIntent{{Name: "docker0"}}}
			tc.change(&o)
			r := Compile(o, in, newIDs())
			spec := mustParse(t, tc.spec)
			got, err := r.PickTarget(spec, tc.target)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("error = %v, want it to contain %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := PublishIntent{Spec: spec, Target: tc.want, Container: tc.container}
			if diff := cmp.Diff(want, got.Intent, compareAddrs()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Address != addr(tc.addr) || got.Endpoint == nil {
				t.Errorf("leads to %s, want %s", got.Address, tc.addr)
			}
			// What was picked is what compiling it gives.
			in.Publish = []PublishIntent{got.Intent}
			r = Compile(o, in, newIDs())
			if p := r.Ports[0]; !p.Active || p.Address != got.Address {
				t.Errorf("compiled: %+v", p)
			}
		})
	}
}

func TestListed(t *testing.T) {
	if got := listed(strings.Split("abcdefghij", "")); got != "a, b, c, d, e, f, g, h and 2 more" {
		t.Error(got)
	}
}

func TestCheckPublish(t *testing.T) {
	o, in := machine(), onDocker0()
	o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 8080, 80, ProtoTCP)}
	in.Publish = user(t, "192.0.2.10:90-99:90-99", "ns1", "70:70", "gone")
	r := Compile(o, in, newIDs())
	for _, tc := range []struct{ spec, err string }{
		{"80:80", ""},
		{"8080:80/udp", ""},            // H-9
		{"192.0.2.10:8080:80/tcp", ""}, // H-6
		{"95:95", ""},                  // H-6
		{"127.0.0.1:80:80", ""},
		{"127.1.2.3:80:80", ""},
		{"8080:80", "publish 8080:80/tcp: docker has published 8080/tcp for web already"},
		{"8000-9000:8000-9000", "docker has published 8080/tcp for web already"},
		{"192.0.2.10:95:95", "192.0.2.10:90-99/tcp is published to ns1 already: run `ebpfnet unpublish 192.0.2.10:90-99/tcp` first"},
		{"70:71", "70/tcp is published to gone already"},
		{"192.0.2.99:80:80", "192.0.2.99 is not an address of this host"},
	} {
		err := r.CheckPublish(mustParse(t, tc.spec))
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.spec, err, tc.err)
		}
	}
}

func TestUnpublish(t *testing.T) {
	specs := func(in Intent) string {
		var out []string
		for _, p := range in.Publish {
			out = append(out, p.Spec.String())
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct{ have, take, want, err string }{
		{"80:80", "80", "", ""},
		{"80:80 81:81", "80", "81:81/tcp", ""},
		{"80:80 80:80/udp", "80/udp", "80:80/tcp", ""},             // H-9
		{"80:80 127.0.0.1:80:81", "127.0.0.1:80", "80:80/tcp", ""}, // H-6
		{"80-90:180-190", "80-90", "", ""},
		{"80-90:180-190", "80", "81-90:181-190/tcp", ""},
		{"80-90:180-190", "90", "80-89:180-189/tcp", ""},
		{"80-90:180-190", "85", "80-84:180-184/tcp 86-90:186-190/tcp", ""},
		{"80-90:180-190", "1-65535", "", ""},
		{"1-65535:1-65535", "2-65535", "1:1/tcp", ""},
		{"80-82:80-82 83:83 84:84", "82-83", "80-81:80-81/tcp 84:84/tcp", ""},
		{"80:80", "81", "", "unpublish 81/tcp: nothing is published there"},
		{"127.0.0.1:80:80", "80", "", "nothing is published there; 127.0.0.1:80/tcp is"},
		{"80:80", "8080", "", "docker has published it for web, and takes it back with the container"},
	} {
		t.Run(tc.have+" without "+tc.take, func(t *testing.T) {
			o, in := machine(), onDocker0()
			o.Containers[0].Ports = []ContainerPort{port("0.0.0.0", 8080, 80, ProtoTCP)}
			for _, s := range strings.Fields(tc.have) {
				in.Publish = append(in.Publish, PublishIntent{Spec: mustParse(t, s), Target: "ns1"})
			}
			before := specs(in)
			r := Compile(o, in, newIDs())
			h, err := ParseUnpublish(tc.take)
			if err != nil {
				t.Fatal(err)
			}
			out, err := in.Unpublish(h, &r)
			if specs(in) != before {
				t.Errorf("the intent itself was changed: %s", specs(in))
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error = %v, want it to contain %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if specs(out) != tc.want {
				t.Errorf("left: %s, want %s", specs(out), tc.want)
			}
			for _, p := range out.Publish {
				if p.Target != "ns1" {
					t.Errorf("%s leads to %s", p.Spec, p.Target)
				}
			}
		})
	}
}
