package loader

import (
	"testing"

	"github.com/florianl/go-tc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// K-3: what others put on a device stays, in its place, through attach, replace and detach, and so does the qdisc that they made.
func TestForeignFilters(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	foreign, _ := counter(t)
	veth := newVeth(t, "c0", 0)
	addQdisc(t, veth, "clsact")
	// At our usual place, at a later priority, and one of another kind that holds a whole priority.
	theirs := []tcObject{
		{prio: 1, handle: 1, kind: "bpf", name: "theirs"},
		{prio: 7, handle: 1, kind: "bpf", name: "theirs"},
	}
	for _, f := range theirs {
		f.ifindex, f.parent, f.proto = veth, clsactIngress, htons(unix.ETH_P_ALL)
		addFilter(t, f.message(foreign.FD()))
	}
	addFilter(t, u32Filter(veth, clsactEgress, 1))
	before := map[direction][]tcObject{}
	for _, dir := range []direction{ingress, egress} {
		before[dir] = mustFilters(t, veth, dir)
	}
	check := func(when string, ours int) {
		t.Helper()
		for _, dir := range []direction{ingress, egress} {
			var others []tcObject
			n := 0
			for _, f := range mustFilters(t, veth, dir) {
				if _, ok := p.ourProgram(f); ok {
					n++
				} else {
					others = append(others, f)
				}
			}
			if diff := cmp.Diff(before[dir], others, cmp.AllowUnexported(tcObject{})); diff != "" {
				t.Errorf("%s: direction %d: %s", when, dir, diff)
			}
			if n != ours {
				t.Errorf("%s: direction %d: %d of ours, want %d", when, dir, n, ours)
			}
		}
	}
	for i := range 3 {
		d := loadEmpty(t, p, probed(t, hookClsact))
		if err := d.AttachVeth(veth); err != nil {
			t.Fatal(err)
		}
		check("attached", 1)
		if i == 1 {
			if err := d.Detach(veth); err != nil {
				t.Fatal(err)
			}
			check("detached", 0)
		}
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	check("removed", 0)
	if kind, err := clsactOf(veth); err != nil || kind != "clsact" {
		t.Errorf("their qdisc: %q, %v", kind, err)
	}
}

// K-3: the qdisc that we made stays where somebody else has come to use it.
func TestForeignFilterOnOurQdisc(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	foreign, _ := counter(t)
	veth := newVeth(t, "c0", 0)
	d := loadEmpty(t, p, probed(t, hookClsact))
	if err := d.AttachVeth(veth); err != nil {
		t.Fatal(err)
	}
	theirs := tcObject{ifindex: veth, parent: clsactEgress, prio: 3, handle: 1, proto: htons(unix.ETH_P_ALL), kind: "bpf", name: "theirs"}
	addFilter(t, theirs.message(foreign.FD()))
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if got := mustFilters(t, veth, egress); len(got) != 1 || got[0].name != "theirs" {
		t.Errorf("filters left: %+v, want theirs", got)
	}
}

// K-3: what somebody removed from under us is missing from Attached, and comes back with the next attach.
func TestRepair(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	d := loadEmpty(t, p, probed(t, hookClsact))
	veth := newVeth(t, "c0", 0)
	if err := d.AttachVeth(veth); err != nil {
		t.Fatal(err)
	}
	if err := withTC(func(t *tc.Tc) error { return t.Qdisc().Delete(clsactMessage(veth)) }); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Attached(); err != nil || len(got) != 0 {
		t.Errorf("Attached() = %v, %v; want none", got, err)
	}
	if err := d.AttachVeth(veth); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, veth, ingress, hookClsact, d.TC.FromContainer)
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	wantNone(t, veth)
}

// An old-style ingress qdisc holds the place of clsact, and is somebody's.
func TestIngressQdiscInTheWay(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	d := loadEmpty(t, p, probed(t, hookClsact))
	veth := newVeth(t, "c0", 0)
	addQdisc(t, veth, "ingress")
	if err := d.AttachVeth(veth); err == nil {
		t.Error("attached over an ingress qdisc")
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if kind, err := clsactOf(veth); err != nil || kind != "ingress" {
		t.Errorf("their qdisc: %q, %v", kind, err)
	}
}

func addQdisc(t *testing.T, ifindex int, kind string) {
	t.Helper()
	q := clsactMessage(ifindex)
	q.Kind = kind
	if err := withTC(func(t *tc.Tc) error { return t.Qdisc().Add(q) }); err != nil {
		t.Fatal(err)
	}
}

func addFilter(t *testing.T, f *tc.Object) {
	t.Helper()
	if err := withTC(func(t *tc.Tc) error { return t.Filter().Add(f) }); err != nil {
		t.Fatal(err)
	}
}

// u32Filter is a filter of another kind than ours: one that matches nothing.
func u32Filter(ifindex int, parent uint32, prio uint16) *tc.Object {
	return &tc.Object{
		Msg: tc.Msg{Ifindex: uint32(ifindex), Parent: parent, Info: uint32(prio)<<16 | uint32(htons(unix.ETH_P_IP))},
		Attribute: tc.Attribute{Kind: "u32", U32: &tc.U32{
			ClassID: new(uint32),
			Sel:     &tc.U32Sel{Flags: 1, NKeys: 1, Keys: []tc.U32Key{{Mask: 0xFFFFFFFF, Val: 0xFFFFFFFF, Off: 12}}},
		}},
	}
}

func mustFilters(t *testing.T, ifindex int, dir direction) []tcObject {
	t.Helper()
	all, err := filters(ifindex, dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
