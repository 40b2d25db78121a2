package loader

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// needRoot skips a test that cannot run, but lets it fail where CI=true: there it must run.
func needRoot(t *testing.T) {
	t.Helper()
	if err := CheckPrivileges(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// newNamespace moves the test into a network namespace of its own.
func newNamespace(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	own, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		own.Close()
		if err := netns.Set(before); err != nil {
			t.Error(err) // the thread stays locked, and ends with the test
			return
		}
		before.Close()
		runtime.UnlockOSThread()
	})
}

// newPaths gives an instance on a bpffs of the test's own: /sys/fs/bpf is neither needed nor touched.
func newPaths(t *testing.T) Paths {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	elsewhere := t.TempDir()
	return pathsUnder("test", dir, elsewhere, elsewhere, elsewhere)
}

// smallSettings keep the maps small: these tests fill none.
func smallSettings() Settings {
	s := DefaultSettings()
	s.Flows, s.NewFlows, s.Endpoints, s.Published, s.HostSockets = 1024, 1024, 64, 256, 256
	return s
}

// needCookie skips where the sockets of a namespace of its own cannot be told from others', and so are not translated.
func needCookie(t *testing.T, f Features) {
	t.Helper()
	if !f.NetnsCookie {
		t.Skip("this kernel does not tell network namespaces apart (Linux 5.14)")
	}
}

func probed(t *testing.T, kind string) Features {
	t.Helper()
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case kind == hookClsact:
		f.TCX = false
	case kind == hookTCX && !f.TCX:
		t.Skip("this kernel has no tcx (Linux 6.6)")
	}
	return f
}

// mustLoad loads the real programs, which takes the verifier a second.
func mustLoad(t *testing.T, p Paths, f Features) *Datapath {
	t.Helper()
	d, err := Load(p, f, smallSettings())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// emptyVersions counts what emptySpecs has given.
var emptyVersions int32

// emptySpecs gives the objects with programs that do nothing, for what does not depend on what they do. Each time they are other ones.
func emptySpecs(t *testing.T) specs {
	t.Helper()
	emptyVersions++
	return emptySpecsOf(t, emptyVersions)
}

// emptySpecsOf is emptySpecs whose programs are the same for the same version.
func emptySpecsOf(t *testing.T, version int32) specs {
	t.Helper()
	tc, err := bpf.LoadDatapath()
	if err != nil {
		t.Fatal(err)
	}
	sock, err := bpf.LoadSock()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tc.Programs {
		p.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, version), asm.Mov.Imm(asm.R0, -1), asm.Return()}
	}
	for _, p := range sock.Programs {
		p.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, version), asm.Mov.Imm(asm.R0, 1), asm.Return()}
	}
	return specs{tc, sock}
}

// loadEmpty is mustLoad with emptySpecs.
func loadEmpty(t *testing.T, p Paths, f Features) *Datapath {
	t.Helper()
	d, err := load(p, f, smallSettings(), emptySpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// kinds runs a test for both kinds of attachment, each in its own network namespace and with an instance of its own.
func kinds(t *testing.T, run func(t *testing.T, kind string, p Paths)) {
	for _, kind := range []string{hookTCX, hookClsact} {
		t.Run(kind, func(t *testing.T) {
			newNamespace(t)
			run(t, kind, newPaths(t))
		})
	}
}

// newVeth makes a pair of veths, both up, and gives the first one's ifindex. index is the ifindex to ask for, 0 for any.
func newVeth(t *testing.T, name string, index int) int {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = name, index
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name + "p", name} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		index = l.Attrs().Index
	}
	return index
}

func deleteLink(t *testing.T, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(l); err != nil {
		t.Fatal(err)
	}
}

func programID(t *testing.T, prog *ebpf.Program) uint32 {
	t.Helper()
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		t.Fatal("no program id")
	}
	return uint32(id)
}

// onDevice lists the ids of all programs on one direction of a device, in the order in which they run: tcx first, as the kernel does it.
func onDevice(t *testing.T, ifindex int, dir direction) (tcx, clsact []uint32) {
	t.Helper()
	there, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: dir.tcx()})
	if err == nil {
		for _, p := range there.Programs {
			tcx = append(tcx, uint32(p.ID))
		}
	}
	all, err := filters(ifindex, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.kind == "bpf" {
			clsact = append(clsact, f.program)
		}
	}
	return tcx, clsact
}

// wantOnly checks that exactly one program is on the hook, of the kind, and which.
func wantOnly(t *testing.T, ifindex int, dir direction, kind string, prog *ebpf.Program) {
	t.Helper()
	tcx, clsact := onDevice(t, ifindex, dir)
	want := []uint32{programID(t, prog)}
	wantTCX, wantClsact := want, []uint32(nil)
	if kind == hookClsact {
		wantTCX, wantClsact = nil, want
	}
	if !slices.Equal(tcx, wantTCX) || !slices.Equal(clsact, wantClsact) {
		t.Fatalf("device %d direction %d: tcx %v clsact %v, want tcx %v clsact %v", ifindex, dir, tcx, clsact, wantTCX, wantClsact)
	}
}

// wantNone checks that nothing of anybody is left on a device.
func wantNone(t *testing.T, ifindex int) {
	t.Helper()
	for _, dir := range []direction{ingress, egress} {
		if tcx, clsact := onDevice(t, ifindex, dir); len(tcx)+len(clsact) != 0 {
			t.Errorf("device %d direction %d: still has tcx %v clsact %v", ifindex, dir, tcx, clsact)
		}
	}
	if kind, err := clsactOf(ifindex); err != nil || kind != "" {
		t.Errorf("device %d: qdisc %q, %v; want none", ifindex, kind, err)
	}
}

// pins lists what this project has on the bpffs of a test, directories included.
func pins(t *testing.T, p Paths) []string {
	t.Helper()
	var all []string
	root := filepath.Dir(p.BPFFS)
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if path == root && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all = append(all, strings.TrimPrefix(path, p.BPFFSMount+"/"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// counter loads a program that counts its runs in entry 0 of the map, and passes every packet on.
func counter(t *testing.T) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "foreign", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, m.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, -1),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog, m
}
