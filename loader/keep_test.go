package loader

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// K-1: an agent that would load what is loaded already takes it as it is: programs, their variables, the hooks. Only nobody listens any more.
func TestKept(t *testing.T) {
	newNamespace(t)
	p, f := newPaths(t), probed(t, "")
	first := mustLoad(t, p, f)
	device := newVeth(t, "c0", 0)
	if err := first.AttachVeth(device); err != nil {
		t.Fatal(err)
	}
	tunnel := newVeth(t, "tunnel", 0)
	if err := first.AttachOverlay(tunnel); err != nil {
		t.Fatal(err)
	}
	if err := first.TC.Monitor.Set(bpf.DatapathMonitorBitMONITOR_DROPS); err != nil {
		t.Fatal(err)
	}
	want := programIDs(t, first)
	if err := first.Detach(tunnel); err != nil {
		t.Fatal(err)
	}
	first.Close()

	second := mustLoad(t, p, f)
	if diff := cmp.Diff(want, programIDs(t, second)); diff != "" {
		t.Errorf("loaded once more: %s", diff)
	}
	var told bpf.MonitorBit
	if err := second.TC.Monitor.Get(&told); err != nil || told != 0 {
		t.Errorf("programs tell of %v, %v, to nobody", told, err)
	}
	if strange := strangeMaps(t, second.TC.FromUplink, second.TC.FromContainer, second.TC.ToContainer); len(strange) != 0 {
		t.Errorf("from_uplink has maps that no other program has: %v", strange)
	}
	wantOnly(t, device, ingress, f.Hook(), second.TC.FromContainer)
	second.Close()

	// A program whose pin is gone is loaded, and works on what the others do.
	dirs := keptDirs(t, p)
	if len(dirs) != 2 {
		t.Fatalf("kept: %v", dirs)
	}
	if err := os.Remove(filepath.Join(dirs[0], bpf.DatapathProgFromUplink)); err != nil {
		t.Fatal(err)
	}
	third := mustLoad(t, p, f)
	now := programIDs(t, third)
	if now[bpf.DatapathProgFromUplink] == want[bpf.DatapathProgFromUplink] {
		t.Error("a program that was not kept is the one of before")
	}
	if strange := strangeMaps(t, third.TC.FromUplink, third.TC.FromContainer, third.TC.ToContainer); len(strange) != 0 {
		t.Errorf("a program that was not kept has maps of its own: %v", strange)
	}
	now[bpf.DatapathProgFromUplink] = want[bpf.DatapathProgFromUplink]
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("one was not kept: %s", diff)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if left := pins(t, p); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// K-1: whatever makes other programs of an object, or gives them other maps, has them loaded; those of before are given up.
func TestKeptOthers(t *testing.T) {
	p, f := newPaths(t), probed(t, "")
	try := func(s Settings, sp specs) (map[string]uint32, error) {
		d, err := load(p, f, s, sp)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return programIDs(t, d), d.Settle()
	}
	usual := func() (map[string]uint32, error) { return try(smallSettings(), emptySpecsOf(t, 0)) }
	before, err := usual()
	if err != nil {
		t.Fatal(err)
	}
	again, err := usual()
	if diff := cmp.Diff(before, again); diff != "" || err != nil {
		t.Fatalf("the same: %v %s", err, diff)
	}
	for _, tt := range []struct {
		name   string
		change func(s *Settings, sp *specs)
		socks  bool // those for sockets are others too
	}{
		{"a setting", func(s *Settings, _ *specs) { s.NATPortMin++ }, true},
		{"an instruction", func(_ *Settings, sp *specs) {
			sp.tc.Programs[bpf.DatapathProgToBridge].Instructions[0] = asm.Mov.Imm(asm.R0, -2)
		}, false},
		{"a table's size", func(s *Settings, _ *specs) { s.Published *= 2 }, true},
		{"a table anew", func(*Settings, *specs) {
			if err := os.Remove(filepath.Join(p.Maps, bpf.DatapathMapPublish4)); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		if before, err = usual(); err != nil {
			t.Fatalf("before %s: %v", tt.name, err)
		}
		s, sp := smallSettings(), emptySpecsOf(t, 0)
		tt.change(&s, &sp)
		now, err := try(s, sp)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for name, id := range now {
			if same := id == before[name]; same != (strings.HasPrefix(name, "sock_") && !tt.socks) {
				t.Errorf("%s: %s is the one of before: %v", tt.name, name, same)
			}
		}
		if dirs := keptDirs(t, p); len(dirs) != 2 {
			t.Errorf("%s: kept: %v", tt.name, dirs)
		}
	}

	// What the kernel refuses leaves those of before as they are.
	if before, err = usual(); err != nil {
		t.Fatal(err)
	}
	left := pins(t, p)
	bad := emptySpecsOf(t, 0)
	bad.sock.Programs[bpf.SockProgSockConnect4].Instructions = asm.Instructions{asm.BuiltinFunc(9999).Call(), asm.Return()}
	bad.tc.Programs[bpf.DatapathProgToBridge].Instructions[0] = asm.Mov.Imm(asm.R0, -2)
	if _, err := try(smallSettings(), bad); err == nil {
		t.Error("a program that cannot be loaded is")
	}
	if diff := cmp.Diff(left, pins(t, p)); diff != "" {
		t.Errorf("pins: %s", diff)
	}
	if again, err = usual(); err != nil || !maps.Equal(before, again) {
		t.Errorf("after a refusal: %v %s", err, cmp.Diff(before, again))
	}
}

// programIDs gives what the kernel calls the programs that are loaded.
func programIDs(t *testing.T, d *Datapath) map[string]uint32 {
	t.Helper()
	ids := map[string]uint32{}
	for name, p := range d.ProgramsByName() {
		ids[name] = programID(t, p)
	}
	return ids
}

// keptDirs lists where objects are kept.
func keptDirs(t *testing.T, p Paths) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(p.Programs, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}
