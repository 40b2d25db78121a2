package loader

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// The programs of an overlay are loaded when they are attached first, or by an agent that finds them attached. They work on the same maps as the
// others, on their variables too: what is told to one is told to all.
func TestLate(t *testing.T) {
	newNamespace(t)
	p, f := newPaths(t), probed(t, "")
	kind := f.Hook()
	d, err := Load(p, f, smallSettings())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	names := []string{bpf.DatapathProgFromOverlay, bpf.DatapathProgToOverlay, bpf.DatapathProgFromPeer, bpf.DatapathProgToPeer}
	loaded := func(when string, d *Datapath, want ...string) {
		t.Helper()
		all := d.ProgramsByName()
		for _, name := range names {
			if got := all[name] != nil; got != slices.Contains(want, name) {
				t.Errorf("%s: %s is loaded: %v", when, name, got)
			}
		}
	}
	loaded("at first", d)
	tunnel := newVeth(t, "tunnel", 0)
	if err := d.AttachOverlay(tunnel); err != nil {
		t.Fatal(err)
	}
	loaded("with a tunnel", d, names[:2]...)
	wantOnly(t, tunnel, ingress, kind, d.TC.FromOverlay)
	wantOnly(t, tunnel, egress, kind, d.TC.ToOverlay)
	same := d.TC.FromOverlay
	if err := d.AttachOverlay(tunnel); err != nil || d.TC.FromOverlay != same {
		t.Errorf("loaded once more: %v", err)
	}
	if own := strangeMaps(t, d.TC.FromOverlay, d.TC.FromUplink, d.TC.FromContainer); len(own) != 0 {
		t.Errorf("from_overlay has maps that no other program has: %v", own)
	}
	next, err := Load(p, f, smallSettings())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	loaded("by the next agent", next, names[:2]...)
	if err := next.AttachOverlay(tunnel); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, tunnel, ingress, kind, next.TC.FromOverlay)
	if own := strangeMaps(t, next.TC.FromOverlay, next.TC.FromUplink, next.TC.FromContainer); len(own) != 0 {
		t.Errorf("from_overlay has maps that no other program has: %v", own)
	}
	next.Close()
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	s := smallSettings()
	s.Overlay = true
	all, err := Load(p, f, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(all.Close)
	loaded("where they are asked for", all, names[:2]...)
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

// strangeMaps gives the names of a program's maps that none of the others has, but for those that only it is about.
func strangeMaps(t *testing.T, p *ebpf.Program, others ...*ebpf.Program) []string {
	t.Helper()
	known := map[ebpf.MapID]bool{}
	maps := func(p *ebpf.Program) []ebpf.MapID {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		ids, ok := info.MapIDs()
		if !ok {
			t.Fatal("the kernel does not tell a program's maps")
		}
		return ids
	}
	for _, o := range others {
		for _, id := range maps(o) {
			known[id] = true
		}
	}
	var names []string
	for _, id := range maps(p) {
		if known[id] {
			continue
		}
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.Info()
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}
