package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Datapath is a set of loaded programs and their maps. Nothing is attached by loading. Its methods are not safe for concurrent use,
// but for ProgramsByName and NewTrial.
type Datapath struct {
	TC   bpf.DatapathObjects
	Sock bpf.SockObjects // its programs are nil where the kernel has no such hook

	maps        *maps.Maps
	paths       Paths
	settings    Settings // as they were asked for
	features    Features
	mountinfo   string
	notes       []string
	sockGap     string // why the host's sockets cannot be translated; "" if they can
	sockProblem string // why they are not, as AttachSockets found it last
	shape       shape
	migrated    int
	settling    []string // directories of other layouts' maps, which programs may still be writing

	lateMu sync.Mutex           // of the programs in late, which are also listed while they come to be loaded
	loose  map[string]*ebpf.Map // maps that have no entries to outlive the programs: their variables and constants among them

	keptTC, keptSock *kept
}

// specs are the two objects before they are loaded.
type specs struct {
	tc, sock *ebpf.CollectionSpec
}

// Load loads the programs and makes the maps, or takes those that are pinned already with all that is in them. Programs of an earlier Load
// that are attached stay so, and go on, whether it succeeds or not. The maps are pinned when it returns; after an error nothing is left
// that was not there before.
//
// The calling thread's network namespace is the host's: its sockets are the ones to translate.
func Load(p Paths, f Features, s Settings) (*Datapath, error) {
	tc, err := bpf.LoadDatapath()
	if err != nil {
		return nil, fmt.Errorf("load datapath: read programs: %w", err)
	}
	sock, err := bpf.LoadSock()
	if err != nil {
		return nil, fmt.Errorf("load datapath: read socket programs: %w", err)
	}
	d, err := load(p, f, s, specs{tc, sock})
	if err != nil {
		return nil, fmt.Errorf("load datapath: %w", err)
	}
	return d, nil
}

func load(p Paths, f Features, s Settings, sp specs) (*Datapath, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := CheckPrivileges(); err != nil {
		return nil, err
	}
	if err := CheckBPFFS(p); err != nil {
		return nil, err
	}
	if missing := f.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("kernel %s lacks %s", f.Release, strings.Join(missing, ", "))
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit of locked memory: %w", err)
	}
	back, err := resize(p, s)
	if err != nil {
		return nil, err
	}
	d, err := loadPinned(p, f, s, sp)
	if err == nil || back == nil {
		return d, err
	}
	if e := back(); e != nil {
		return nil, errors.Join(err, e)
	}
	if !errors.Is(err, errNoRoom) {
		return nil, err
	}
	small := err
	if d, err = loadPinned(p, f, s, sp); err == nil {
		d.notes = append(d.notes, "sizes stay as they were: "+small.Error())
	}
	return d, err
}

// loadPinned loads with the maps that are pinned, as large as they are, and with new ones where there are none.
func loadPinned(p Paths, f Features, s Settings, sp specs) (_ *Datapath, err error) {
	d := &Datapath{paths: p, settings: s, features: f, mountinfo: "/proc/self/mountinfo"}
	if err := d.configure(sp, s); err != nil {
		return nil, err
	}
	undo, err := d.adoptPins(sp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
			for _, k := range d.kept() {
				k.undo()
			}
			undo()
		}
	}()
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: p.Maps}}
	if err := d.loadTC(sp.tc, opts); err != nil {
		return nil, d.refused(err)
	}
	if err := d.loadSock(sp.sock, opts); err != nil {
		return nil, d.refused(err)
	}
	if err := d.migrate(sp.tc); err != nil {
		return nil, err
	}
	return d, d.dropOthers()
}

// kept are the objects that have been looked for among those that are kept.
func (d *Datapath) kept() []*kept {
	return slices.DeleteFunc([]*kept{d.keptTC, d.keptSock}, func(k *kept) bool { return k == nil })
}

// dropOthers gives up programs that were kept, and are not those that were loaded.
func (d *Datapath) dropOthers() error {
	for _, k := range d.kept() {
		if err := k.dropOthers(); err != nil {
			return err
		}
	}
	return nil
}

// configure writes the settings into both objects.
func (d *Datapath) configure(sp specs, s Settings) error {
	cookie, err := d.hostCookie()
	if err != nil {
		return err
	}
	flag := func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	}
	for _, spec := range []*ebpf.CollectionSpec{sp.tc, sp.sock} {
		if err := s.apply(spec); err != nil {
			return err
		}
		for name, value := range map[string]any{
			bpf.DatapathVarHostNetnsCookie: cookie,
			bpf.DatapathVarHasFibSkipNeigh: flag(d.features.FibSkipNeigh),
			bpf.DatapathVarHasFibSrc:       flag(d.features.FibSrc),
			bpf.DatapathVarHasTunnelLocal:  flag(d.features.TunnelLocal),
			bpf.DatapathVarMssLimit:        s.MSS,
			bpf.DatapathVarNatPortMin:      s.NATPortMin,
			bpf.DatapathVarNatPortMax:      s.NATPortMax,
			bpf.DatapathVarTicksPerSecond:  d.features.TicksPerSecond,
		} {
			// A variable that no program of an object reads may be absent from it.
			v, ok := spec.Variables[name]
			if !ok {
				continue
			}
			if err := v.Set(value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	return nil
}

// hostCookie gives what the socket programs know the host's namespace by. 0 stands for the initial namespace, for kernels that do not tell;
// any other namespace has no name there, and its sockets are left alone.
func (d *Datapath) hostCookie() (uint64, error) {
	if d.features.NetnsCookie {
		return netnsCookie()
	}
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return 0, fmt.Errorf("find network namespace: %w", err)
	}
	if initial, err := os.Stat("/proc/1/ns/net"); err != nil || !os.SameFile(own, initial) {
		d.sockGap = fmt.Sprintf("kernel %s does not tell network namespaces apart (Linux 5.14)", d.features.Release)
	}
	return 0, nil
}

func (d *Datapath) loadTC(spec *ebpf.CollectionSpec, opts *ebpf.CollectionOptions) error {
	var err error
	if d.keptTC, err = findKept(d.paths, "datapath", spec); err != nil {
		return err
	}
	defer d.keptTC.close()
	if err := d.early(spec); err != nil {
		return err
	}
	coll, err := loadTogether(spec, *opts, d.keptTC)
	if err != nil {
		return err
	}
	defer coll.Close()
	d.loose = map[string]*ebpf.Map{}
	for name := range looseMaps(spec) {
		if d.loose[name], err = coll.Maps[name].Clone(); err != nil {
			return err
		}
	}
	if err := d.keptTC.keep(coll.Programs, d.loose); err != nil {
		return err
	}
	if err := errors.Join(coll.Assign(&d.TC.DatapathMaps), coll.Assign(&d.TC.DatapathVariables)); err != nil {
		return err
	}
	// Whoever listened to programs that were kept is gone.
	if err := d.TC.Monitor.Set(bpf.MonitorBit(0)); err != nil {
		return fmt.Errorf("ask for no events: %w", err)
	}
	programs := d.late()
	for name, place := range map[string]**ebpf.Program{
		bpf.DatapathProgClock:         &d.TC.Clock,
		bpf.DatapathProgFromContainer: &d.TC.FromContainer, bpf.DatapathProgToContainer: &d.TC.ToContainer,
		bpf.DatapathProgFromUplink: &d.TC.FromUplink, bpf.DatapathProgToUplink: &d.TC.ToUplink,
		bpf.DatapathProgFromBridge: &d.TC.FromBridge, bpf.DatapathProgToBridge: &d.TC.ToBridge,
	} {
		programs[name] = place
	}
	for name, place := range programs {
		*place = coll.DetachProgram(name)
	}
	d.maps = maps.New(&d.TC.DatapathMaps)
	return nil
}

// loadSock loads the socket programs that this kernel has hooks for.
func (d *Datapath) loadSock(spec *ebpf.CollectionSpec, opts *ebpf.CollectionOptions) error {
	if !d.features.CgroupSock {
		d.sockGap = fmt.Sprintf("kernel %s has no cgroup socket hooks (CONFIG_CGROUP_BPF)", d.features.Release)
		return nil
	}
	if !d.features.CgroupGetpeername {
		for _, p := range sockPrograms() {
			if p.getpeername {
				delete(spec.Programs, p.name)
			}
		}
		d.notes = append(d.notes, "getpeername of host sockets tells the container's address: the kernel has no hook for it (Linux 5.8)")
	}
	// A table of the other object's, which is in this one by name only.
	spec.Maps[bpf.SockMapPieces4].MaxEntries = 1
	var err error
	if d.keptSock, err = findKept(d.paths, "sock", spec); err != nil {
		return err
	}
	defer d.keptSock.close()
	coll, err := loadTogether(spec, *opts, d.keptSock)
	if err != nil {
		return err
	}
	defer coll.Close()
	loose := map[string]*ebpf.Map{}
	for name := range looseMaps(spec) {
		loose[name] = coll.Maps[name]
	}
	if err := d.keptSock.keep(coll.Programs, loose); err != nil {
		return err
	}
	if err := coll.Assign(&d.Sock.SockMaps); err != nil {
		return err
	}
	for _, p := range sockPrograms() {
		*p.in(&d.Sock) = coll.DetachProgram(p.name)
	}
	return nil
}

// refused says of an object what the kernel has against it. The cause names the program or map, and what in it the kernel does not know.
func (d *Datapath) refused(err error) error {
	if errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("no memory for the maps: make them smaller: %w", err)
	}
	return fmt.Errorf("kernel %s refuses it: %w", d.features.Release, explain(err))
}

// Maps gives typed access to the maps, the same at every call. It ends with Close.
func (d *Datapath) Maps() *maps.Maps { return d.maps }

// Notes tells what is not as the settings have it, for the user to know.
func (d *Datapath) Notes() []string { return slices.Clone(d.notes) }

// Problems tells what does not work on this host, as far as attaching has met it, and what to do.
func (d *Datapath) Problems() []string {
	if d.sockProblem == "" {
		return nil
	}
	return []string{d.sockProblem}
}

// Features tells what it was loaded for.
func (d *Datapath) Features() Features { return d.features }

// Hook tells how programs are attached to devices: "tcx" or "clsact".
func (d *Datapath) Hook() string { return d.features.Hook() }

// Now gives the moment that flow entries' times are compared with, in ticks (see Features.TicksPerSecond). It wraps.
func (d *Datapath) Now() (uint32, error) {
	now, err := d.TC.Clock.Run(&ebpf.RunOptions{Data: testFrame()})
	if err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return now, nil
}

// Close gives up this process's hold on programs and maps. What is attached or pinned goes on.
func (d *Datapath) Close() {
	d.TC.Close()
	d.Sock.Close()
	for _, m := range d.loose {
		m.Close()
	}
}

// Exists says whether anything of an instance is pinned.
func Exists(p Paths) bool {
	found := false
	_ = filepath.WalkDir(p.BPFFS, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}
