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

// K-6: pinned maps are taken over with their entries, and both objects use the same ones. Where another size is asked for, larger or smaller, they
// get it and keep their entries, also those that come until the new programs are attached; where these do not fit, everything stays as it is.
func TestResize(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	s := smallSettings()
	open := func() *Datapath {
		t.Helper()
		d, err := load(p, f, s, emptySpecs(t))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	key := func(port uint16) bpf.FlowKey { return bpf.FlowKey{Saddr: 1, Daddr: 2, Sport: port, Proto: 6} }
	flow := bpf.Flow{Saddr: 11, Packets: 12}
	holds := func(when string, d *Datapath, size uint32, ports ...uint16) {
		t.Helper()
		var veth bpf.Veth
		if err := d.Sock.Veths.Lookup(uint32(7), &veth); err != nil || veth.Bridge != 5 {
			t.Errorf("%s: a veth: %+v, %v", when, veth, err)
		}
		for _, port := range ports {
			var got bpf.Flow
			if err := d.TC.Flows4.Lookup(key(port), &got); err != nil || got != flow {
				t.Errorf("%s: flow %d: %+v, %v", when, port, got, err)
			}
		}
		if n := d.TC.Flows4.MaxEntries(); n != size {
			t.Errorf("%s: flows4 has %d entries, want %d", when, n, size)
		}
	}
	old := open()
	for _, err := range []error{old.TC.Veths.Put(uint32(7), bpf.Veth{Bridge: 5, Id: 3}), old.TC.Flows4.Put(key(1), flow)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	was := old.TC.Flows4.MaxEntries()
	same := open()
	holds("the same", same, was, 1)
	same.Close()
	if notes := old.Notes(); notes != nil {
		t.Errorf("Notes() = %v", notes)
	}

	s.Flows *= 4
	larger := open()
	holds("larger", larger, 4*was, 1)
	if err := old.TC.Flows4.Put(key(2), flow); err != nil { // its programs are still at it
		t.Fatal(err)
	}
	old.Close()
	larger.Close()
	// The agent dies before it has settled, and the next one goes on; nothing is resized until it is done.
	s.Flows /= 2
	larger = open()
	if notes := larger.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "flows4 keeps its 8192 entries, not 4096") {
		t.Errorf("Notes() = %v", notes)
	}
	if err := larger.Settle(); err != nil {
		t.Fatal(err)
	}
	holds("settled", larger, 4*was, 1, 2)
	if exists(p.outgrown()) {
		t.Error("the maps of before are still pinned")
	}
	larger.Close()

	smaller := open()
	if err := smaller.Settle(); err != nil {
		t.Fatal(err)
	}
	holds("smaller", smaller, 2*was, 1, 2)
	for i := range smaller.TC.Publish4.MaxEntries() {
		if err := smaller.TC.Publish4.Put(bpf.PublishKey{Addr: i, Port: 1}, bpf.Publish{}); err != nil {
			t.Fatal(err)
		}
	}
	smaller.Close()
	s.Published /= 2
	full := open()
	defer full.Close()
	holds("too small", full, 2*was, 1, 2)
	if n := full.TC.Publish4.MaxEntries(); n != 2*s.Published {
		t.Errorf("publish4 has %d entries", n)
	}
	if notes := strings.Join(full.Notes(), "; "); !strings.Contains(notes, "publish4: its entries do not fit") {
		t.Errorf("Notes() = %v", notes)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if exists(p.BPFFS) {
		t.Error("something is left")
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
