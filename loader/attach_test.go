package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// K-1: a hundred restarts, each of which attaches programs that were loaded anew, leave exactly one of ours on each hook, the last one.
func TestReplace(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, p Paths) {
		f := probed(t, kind)
		veth, bridge, uplink := newVeth(t, "eth0.5", 0), newVeth(t, "br", 0), newVeth(t, "up", 0)
		var loads []*Datapath
		for range 4 {
			loads = append(loads, loadEmpty(t, p, f))
		}
		for i := range 100 {
			d := loads[i%len(loads)]
			for range 2 { // the second time nothing is to be done
				if err := errors.Join(d.AttachVeth(veth), d.AttachBridge(bridge), d.AttachUplink(uplink)); err != nil {
					t.Fatalf("cycle %d: %v", i, err)
				}
			}
			for _, dev := range []struct {
				ifindex  int
				from, to *ebpf.Program
			}{
				{veth, d.TC.FromContainer, d.TC.ToContainer},
				{bridge, d.TC.FromBridge, d.TC.ToBridge},
				{uplink, d.TC.FromUplink, d.TC.ToUplink},
			} {
				wantOnly(t, dev.ifindex, ingress, kind, dev.from)
				wantOnly(t, dev.ifindex, egress, kind, dev.to)
			}
		}
		if got := loads[0].Hook(); got != kind {
			t.Errorf("Hook() = %q, want %q", got, kind)
		}
	})
}

// K-1: so does going from one kind of attachment to the other and back.
func TestSwitchKind(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	veth := newVeth(t, "c0", 0)
	for _, kind := range []string{hookTCX, hookClsact, hookTCX, hookClsact} {
		d := loadEmpty(t, p, probed(t, kind))
		if err := d.AttachVeth(veth); err != nil {
			t.Fatal(err)
		}
		wantOnly(t, veth, ingress, kind, d.TC.FromContainer)
		wantOnly(t, veth, egress, kind, d.TC.ToContainer)
		if qdisc, err := clsactOf(veth); err != nil || (qdisc == "clsact") != (kind == hookClsact) {
			t.Errorf("%s: qdisc %q, %v", kind, qdisc, err)
		}
	}
}

// K-1: a device that changes its role has the programs of the new one only.
func TestSwitchRole(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, p Paths) {
		d := loadEmpty(t, p, probed(t, kind))
		dev := newVeth(t, "d0", 0)
		if err := d.AttachVeth(dev); err != nil {
			t.Fatal(err)
		}
		if err := d.AttachUplink(dev); err != nil {
			t.Fatal(err)
		}
		wantOnly(t, dev, ingress, kind, d.TC.FromUplink)
		wantOnly(t, dev, egress, kind, d.TC.ToUplink)
		got, err := d.Attached()
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]Hooks{dev: {Kind: kind, Programs: []string{"from_uplink", "to_uplink"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// What is attached can be listed and taken away device by device, also by a process that has loaded nothing.
func TestAttachedDetach(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, p Paths) {
		d := loadEmpty(t, p, probed(t, kind))
		veth, bridge := newVeth(t, "c0", 0), newVeth(t, "b0", 0)
		if err := errors.Join(d.AttachVeth(veth), d.AttachBridge(bridge)); err != nil {
			t.Fatal(err)
		}
		got, err := Attached(p)
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]Hooks{
			veth:   {Kind: kind, Programs: []string{"from_container", "to_container"}},
			bridge: {Kind: kind, Programs: []string{"from_bridge", "to_bridge"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for range 2 {
			if err := d.Detach(veth); err != nil {
				t.Fatal(err)
			}
		}
		wantNone(t, veth)
		wantOnly(t, bridge, ingress, kind, d.TC.FromBridge)
		delete(want, veth)
		if got, err = d.Attached(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A link outlives its device. The next device of that number is a new one, and gets programs of its own.
func TestDeviceGone(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, p Paths) {
		d := loadEmpty(t, p, probed(t, kind))
		veth := newVeth(t, "c0", 0)
		if err := d.AttachVeth(veth); err != nil {
			t.Fatal(err)
		}
		deleteLink(t, "c0")
		if err := d.AttachVeth(veth); !errors.Is(err, unix.ENODEV) {
			t.Errorf("attach to a device that is gone: %v, want ENODEV", err)
		}
		if again := newVeth(t, "c1", veth); again != veth {
			t.Fatalf("new device has ifindex %d, want %d", again, veth)
		}
		wantNone(t, veth)
		if err := d.AttachVeth(veth); err != nil {
			t.Fatal(err)
		}
		wantOnly(t, veth, ingress, kind, d.TC.FromContainer)
		wantOnly(t, veth, egress, kind, d.TC.ToContainer)

		deleteLink(t, "c1")
		got, err := d.Attached()
		if err != nil {
			t.Fatal(err)
		}
		if h := got[veth]; kind == hookTCX && !h.Gone || kind == hookClsact && h.Kind != "" {
			t.Errorf("Attached() = %+v after the device is gone", got)
		}
		if err := d.Detach(veth); err != nil {
			t.Fatal(err)
		}
		if names, err := listLinks(p); err != nil || len(names) != 0 {
			t.Errorf("links left: %v, %v", names, err)
		}
	})
}

// Two instances on one device do not touch each other.
func TestTwoInstances(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, a Paths) {
		b := pathsUnder("test-2", a.BPFFSMount, "/nowhere", "/nowhere", "/nowhere")
		veth := newVeth(t, "c0", 0)
		f := probed(t, kind)
		da, db := loadEmpty(t, a, f), loadEmpty(t, b, f)
		if err := errors.Join(da.AttachVeth(veth), db.AttachVeth(veth)); err != nil {
			t.Fatal(err)
		}
		if err := RemoveAll(a); err != nil {
			t.Fatal(err)
		}
		wantOnly(t, veth, ingress, kind, db.TC.FromContainer)
		wantOnly(t, veth, egress, kind, db.TC.ToContainer)
		if Exists(a) || !Exists(b) {
			t.Errorf("Exists: removed %v, other %v", Exists(a), Exists(b))
		}
		if err := RemoveAll(b); err != nil {
			t.Fatal(err)
		}
		wantNone(t, veth)
		if left := pins(t, b); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
