package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// A container's namespace is its project, else its network; its labels are the pod's; what rules select is marked on its veth.
func TestCompileRules(t *testing.T) {
	in := all()
	list, err := rules.Parse("f", []byte(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {matchLabels: {ebpfnet.container: web}}, policyTypes: [Egress]}
`))
	if err != nil {
		t.Fatal(err)
	}
	in.Policies = list
	o := twoBridges()
	r := Compile(o, in, newIDs())
	i := slices.IndexFunc(r.Endpoints, func(e EndpointView) bool { return e.Name == "web" })
	if diff := cmp.Diff([]RuleView{{Name: "default/web", Source: "f", Directions: []string{"egress"}, Selected: []string{"web"}}}, r.Policies); diff != "" {
		t.Errorf("policies (-want +got)\n%s", diff)
	}
	for index, v := range r.State.Veths {
		want := bpf.VethFlag(0)
		if int(index) == r.Endpoints[i].Index {
			want = bpf.DatapathVethFlagVETH_EGRESS
		}
		if v.Flags != want {
			t.Errorf("veth %d has the flags %d, want %d", index, v.Flags, want)
		}
	}
	// A project goes before the network.
	for c := range o.Containers {
		if o.Containers[c].Name == "web" {
			o.Containers[c].Labels = map[string]string{labelProject: "shop", rules.LabelAllowFrom: "none", labelEgressIP: "192.0.2.99", labelPublishFrom: "x"}
			o.Containers[c].Ports = []ContainerPort{port("0.0.0.0", 80, 80, ProtoTCP)}
		}
	}
	r = Compile(o, in, newIDs())
	var names []string
	for _, p := range r.Policies {
		names = append(names, p.Name+" "+strings.Join(p.Selected, ","))
	}
	if diff := cmp.Diff([]string{"default/web ", "shop/label ebpfnet.allow-from of web web,web@br-front"}, names); diff != "" {
		t.Errorf("policies (-want +got)\n%s", diff)
	}
	for _, want := range []string{"192.0.2.99, which is not an address of this host now", labelPublishFrom + "=x"} {
		if !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("no problem tells of %q: %q", want, r.Problems)
		}
	}
	for k, p := range r.State.Publish {
		if p.From == 0 {
			t.Errorf("port %v of a container whose label is a mistake is for everybody", k)
		}
	}
	i = slices.IndexFunc(r.Endpoints, func(e EndpointView) bool { return e.Name == "web" })
	if got := r.State.Endpoints[bpf.AddrKey{Addr: bpf.Addr(r.Endpoints[i].Addr())}].Egress; got != bpf.EgressNone {
		t.Errorf("it leaves with %s", bpf.ToAddr(got))
	}
}

// Lists of addresses that may use a port keep their numbers, in the next compilation and for the next agent; another list has another number.
func TestAllowedKeepTheirNumbers(t *testing.T) {
	compile := func(ids *Identities, from string) Result {
		in := all()
		in.Publish = user(t, "80:80", "web", "81:81", "web")
		prefixes, err := ParseFrom(from)
		if err != nil {
			t.Fatal(err)
		}
		in.Publish[0].From = prefixes
		return Compile(twoBridges(), in, ids)
	}
	number := func(r Result) uint32 {
		t.Helper()
		for k, p := range r.State.Publish {
			if bpf.ToPort(k.Port) == 80 {
				return p.From
			}
			if p.From != 0 {
				t.Errorf("port %d is only for some", bpf.ToPort(k.Port))
			}
		}
		return 0
	}
	ids := newIDs()
	first := compile(ids, "10.0.0.0/8, 192.0.2.7")
	if number(first) == 0 || len(first.State.PublishFrom) != 2 {
		t.Fatalf("number %d, entries %v", number(first), first.State.PublishFrom)
	}
	if again := compile(ids, "192.0.2.7/32,10.0.0.0/8"); number(again) != number(first) {
		t.Errorf("the same list has the numbers %d and %d", number(first), number(again))
	}
	other := compile(ids, "10.0.0.0/9")
	if number(other) == number(first) {
		t.Error("two lists have one number")
	}
	if next := compile(NewIdentities(first.State, Slots{Endpoints: 16, Bridges: 4, Published: 16}), "10.0.0.0/8,192.0.2.7"); number(next) != number(first) {
		t.Errorf("the next agent calls %d what was %d", number(next), number(first))
	}
}
