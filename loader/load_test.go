package loader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// K-4: the real programs load, attach everywhere, and are gone without a trace: no qdisc, filter, link, pin, directory.
func TestRemoveAll(t *testing.T) {
	kinds(t, func(t *testing.T, kind string, p Paths) {
		if Exists(p) {
			t.Error("exists before it was loaded")
		}
		f := probed(t, kind)
		d := mustLoad(t, p, f)
		d.mountinfo = newCgroup(t)
		devices := []int{newVeth(t, "c0", 0), newVeth(t, "b0", 0), newVeth(t, "u0", 0)}
		for i, attach := range []func(int) error{d.AttachVeth, d.AttachBridge, d.AttachUplink} {
			if err := attach(devices[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.AttachSockets(); err != nil {
			t.Fatal(err)
		}
		if got := d.Problems(); got != nil && f.NetnsCookie {
			t.Errorf("Problems() = %v", got)
		}
		if !Exists(p) {
			t.Error("does not exist though it is loaded")
		}
		d.Close()
		if got, err := Attached(p); err != nil || len(got) != len(devices) {
			t.Errorf("after Close: attached %v, %v", got, err)
		}
		for range 2 {
			if err := RemoveAll(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, ifindex := range devices {
			wantNone(t, ifindex)
		}
		if n := sockCount(t, d.mountinfo); n != 0 {
			t.Errorf("%d socket programs left", n)
		}
		if left := pins(t, p); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if Exists(p) {
			t.Error("exists after it was removed")
		}
	})
}

// K-13: without a bpffs nothing is made, and none is mounted.
func TestNoBPFFS(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	p := pathsUnder("test", dir, dir, dir, dir)
	_, err := Load(p, Features{}, smallSettings())
	if want := "no bpffs at " + dir + ": mount it with `mount -t bpf bpf " + dir + "`"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("Load() = %v, want %q", err, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if Exists(p) {
		t.Error("exists without a bpffs")
	}
}

// K-8: a kernel without a feature gives its name; what runs goes on, and nothing is left of the attempt.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		try  func(p Paths, f Features, sp specs) error
		want []string
	}{
		{"known feature", func(p Paths, f Features, sp specs) error {
			f.RedirectPeer = false
			_, err := load(p, f, smallSettings(), sp)
			return err
		}, []string{"lacks redirect_peer (Linux 5.10)"}},
		{"unknown helper", func(p Paths, f Features, sp specs) error {
			sp.tc.Programs[bpf.DatapathProgToUplink].Instructions = asm.Instructions{asm.BuiltinFunc(9999).Call(), asm.Return()}
			_, err := load(p, f, smallSettings(), sp)
			return err
		}, []string{bpf.DatapathProgToUplink, "9999"}},
		{"unknown map type", func(p Paths, f Features, sp specs) error {
			sp.tc.Maps["later"] = &ebpf.MapSpec{Name: "later", Type: ebpf.MapType(999), KeySize: 4, ValueSize: 4, MaxEntries: 1}
			sp.tc.Programs[bpf.DatapathProgClock].Instructions = append(asm.Instructions{
				asm.LoadMapPtr(asm.R1, 0).WithReference("later")}, sp.tc.Programs[bpf.DatapathProgClock].Instructions...)
			_, err := load(p, f, smallSettings(), sp)
			return err
		}, []string{"later"}},
		{"socket program", func(p Paths, f Features, sp specs) error {
			sp.sock.Programs[bpf.SockProgSockConnect4].Instructions = asm.Instructions{asm.BuiltinFunc(9999).Call(), asm.Return()}
			_, err := load(p, f, smallSettings(), sp)
			return err
		}, []string{bpf.SockProgSockConnect4, "9999"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newNamespace(t)
			p := newPaths(t)
			f := probed(t, "")
			check := func(err error) {
				t.Helper()
				for _, want := range append(tt.want, f.Release) {
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
						t.Errorf("error %v, want one line with %q", err, want)
					}
				}
			}
			check(tt.try(p, f, emptySpecs(t)))
			if left := pins(t, p); len(left) != 0 {
				t.Errorf("left: %v", left)
			}

			veth := newVeth(t, "c0", 0)
			d := loadEmpty(t, p, f)
			if err := d.AttachVeth(veth); err != nil {
				t.Fatal(err)
			}
			before := pins(t, p)
			check(tt.try(p, f, emptySpecs(t)))
			wantOnly(t, veth, ingress, d.Hook(), d.TC.FromContainer)
			wantOnly(t, veth, egress, d.Hook(), d.TC.ToContainer)
			if diff := cmp.Diff(before, pins(t, p)); diff != "" {
				t.Error(diff)
			}
			if err := RemoveAll(p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// K-6: pinned maps are taken over with their entries and their size, whatever size is asked for, and both objects use the same ones.
func TestAdopt(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	s := smallSettings()
	d, err := load(p, f, s, emptySpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	if notes := d.Notes(); notes != nil {
		t.Errorf("Notes() = %v", notes)
	}
	if err := d.TC.Veths.Put(uint32(7), bpf.Veth{Bridge: 5, Id: 3}); err != nil {
		t.Fatal(err)
	}
	d.Close()

	was := 2 * s.Flows
	s.Flows *= 4
	d, err = load(p, f, s, emptySpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var got bpf.Veth
	if err := d.Sock.Veths.Lookup(uint32(7), &got); err != nil || got.Bridge != 5 {
		t.Errorf("entry of before: %+v, %v", got, err)
	}
	if n := d.TC.Flows4.MaxEntries(); n != was {
		t.Errorf("flows4 has %d entries, want %d", n, was)
	}
	if notes := d.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "flows4 keeps its 2048 entries") {
		t.Errorf("Notes() = %v", notes)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

// A pinned map of another shape is refused, and left as it is, and so is a layout that says nothing of itself (K-5).
func TestOtherVersions(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	if err := os.MkdirAll(p.Maps, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 99, MaxEntries: 1, Flags: bpfNoPrealloc})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	pin := filepath.Join(p.Maps, bpf.DatapathMapVeths)
	if err := other.Pin(pin); err != nil {
		t.Fatal(err)
	}
	before := pins(t, p)
	if _, err := load(p, f, smallSettings(), emptySpecs(t)); err == nil || !strings.Contains(err.Error(), "veths is of another version: run `detach --all`") {
		t.Errorf("Load() = %v", err)
	}
	if diff := cmp.Diff(before, pins(t, p)); diff != "" {
		t.Error(diff)
	}
	if err := other.Unpin(); err != nil {
		t.Fatal(err)
	}

	old := filepath.Join(p.BPFFS, "v0", "maps")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := other.Pin(filepath.Join(old, "flows")); err != nil {
		t.Fatal(err)
	}
	before = pins(t, p)
	if _, err := load(p, f, smallSettings(), emptySpecs(t)); err == nil || !strings.Contains(err.Error(), "layout v0: they do not say what is in them: run `detach --all`") {
		t.Errorf("Load() = %v", err)
	}
	if diff := cmp.Diff(before, pins(t, p)); diff != "" {
		t.Error(diff)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}

// What is fixed at load reaches the programs: constants that the verifier sees.
func TestConfigure(t *testing.T) {
	newNamespace(t)
	f := probed(t, "")
	f.FibSkipNeigh, f.FibSrc, f.TicksPerSecond = true, false, 123
	s := smallSettings()
	s.NATPortMin, s.NATPortMax = 3000, 3999
	sp := emptySpecs(t)
	d := &Datapath{features: f}
	if err := d.configure(sp, s); err != nil {
		t.Fatal(err)
	}
	var cookie uint64 // stays 0 where the kernel does not tell
	if f.NetnsCookie {
		var err error
		if cookie, err = netnsCookie(); err != nil {
			t.Fatal(err)
		}
	}
	var gotCookie uint64
	var skip, src uint8
	var low, high uint16
	var ticks uint32
	for name, into := range map[string]any{
		bpf.DatapathVarHostNetnsCookie: &gotCookie, bpf.DatapathVarHasFibSkipNeigh: &skip, bpf.DatapathVarHasFibSrc: &src,
		bpf.DatapathVarNatPortMin: &low, bpf.DatapathVarNatPortMax: &high, bpf.DatapathVarTicksPerSecond: &ticks,
	} {
		if err := sp.tc.Variables[name].Get(into); err != nil {
			t.Fatal(err)
		}
	}
	if gotCookie != cookie || skip != 1 || src != 0 || low != 3000 || high != 3999 || ticks != 123 {
		t.Errorf("cookie %d (want %d), skip_neigh %d, src %d, ports %d to %d, ticks %d", gotCookie, cookie, skip, src, low, high, ticks)
	}
}
