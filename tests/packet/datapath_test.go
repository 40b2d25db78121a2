package packet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// options of a datapath that differs from the usual one.
type options struct {
	programs []string          // to load; nil: all
	sizes    map[string]uint32 // of maps, in entries
	plain    []string          // LRU maps to make plain hashes of, which refuse an entry when they are full
	vars     map[string]any
	wrap     func(*ebpf.CollectionSpec) error
	log      ebpf.LogLevel

	ingressFromCB bool // even where the test run takes it
}

// datapath is a loaded datapath and the world that it is in. Its maps are pinned nowhere.
type datapath struct {
	w     *world
	coll  *ebpf.Collection
	names bpf.Names
	epoch uint32

	ingressFromCB bool // the programs read skb->ingress_ifindex from there
}

func load(tb testing.TB, o options) *datapath {
	tb.Helper()
	names, err := bpf.LoadNames()
	if err != nil {
		tb.Fatal(err)
	}
	spec, err := bpf.LoadDatapath()
	if err != nil {
		tb.Fatal(err)
	}
	sizes := map[string]uint32{"flows4": 8192, "flows4_new": 4096, "publish4": 70000, "endpoint_stats": 1024, "path_stats": 64}
	maps.Copy(sizes, o.sizes)
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if n, ok := sizes[name]; ok {
			m.MaxEntries = n
		}
		if slices.Contains(o.plain, name) {
			m.Type = ebpf.Hash
		}
	}
	for name := range spec.Programs {
		if o.programs != nil && !slices.Contains(o.programs, name) {
			delete(spec.Programs, name)
		}
	}
	vars := map[string]any{"has_fib_skip_neigh": fibKnows(tb, 1<<2), "has_fib_src": fibKnows(tb, 1<<4)}
	maps.Copy(vars, o.vars)
	for name, v := range vars {
		if err := spec.Variables[name].Set(v); err != nil {
			tb.Fatalf("set %s: %v", name, err)
		}
	}
	if o.wrap != nil {
		if err := o.wrap(spec); err != nil {
			tb.Fatal(err)
		}
	}
	fromCB := o.ingressFromCB || !takesIngress(tb)
	if fromCB {
		ingressFromCB(spec)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: o.log}})
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		tb.Fatalf("load datapath: %+v", verifier)
	}
	if err != nil {
		tb.Fatalf("load datapath: %v", err)
	}
	tb.Cleanup(coll.Close)
	d := &datapath{w: newWorld(tb), coll: coll, names: names, ingressFromCB: fromCB}
	d.reset(tb)
	return d
}

// fibKnows says by trying whether this kernel's bpf_fib_lookup knows a flag: 1 or 0.
func fibKnows(tb testing.TB, flag int32) uint8 {
	tb.Helper()
	const invalid = -22
	insns := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	for at := int16(-64); at < 0; at += 8 {
		insns = append(insns, asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord))
	}
	insns = append(insns,
		asm.StoreImm(asm.RFP, -64, 2, asm.Byte), // family
		asm.StoreImm(asm.RFP, -56, 1, asm.Word), // ifindex
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -64),
		asm.Mov.Imm(asm.R3, 64),
		asm.Mov.Imm(asm.R4, flag),
		asm.FnFibLookup.Call(),
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: insns})
	if err != nil {
		tb.Fatalf("load probe of bpf_fib_lookup: %v", err)
	}
	defer p.Close()
	ret, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		tb.Fatal(err)
	}
	if int32(ret) == invalid {
		return 0
	}
	return 1
}

// reset empties the flow tables and makes the maps say what the world is.
func (d *datapath) reset(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"flows4", "flows4_new", "frags4", "pieces4"} {
		if m := d.coll.Maps[name]; m != nil {
			empty(tb, m)
		}
	}
	d.sync(tb, d.w.state())
}

// sync makes the control plane's maps hold exactly s, under a new epoch.
func (d *datapath) sync(tb testing.TB, s state.State) {
	tb.Helper()
	// The set in force changes with each epoch, as with every change of the rules.
	set := (d.epoch + 1) % bpf.PolicySets
	endpoints := maps.Clone(s.Endpoints)
	for k, ident := range s.Policy.Idents {
		ep := endpoints[k]
		ep.Policy[set] = ident
		endpoints[k] = ep
	}
	replace(tb, d.coll.Maps["endpoints4"], endpoints)
	replace(tb, d.coll.Maps["classes4"], inSet(s.Policy.Classes, func(k *bpf.ClassKey) { k.Set = set }))
	replace(tb, d.coll.Maps["pairs"], inSet(s.Policy.Pairs, func(k *bpf.PairKey) { k.Set = set }))
	replace(tb, d.coll.Maps["profiles"], inSet(s.Policy.Profiles, func(k *bpf.ProfileKey) { k.Set = set }))
	replace(tb, d.coll.Maps["publish_from4"], s.PublishFrom)
	replace(tb, d.coll.Maps["bridges4"], s.Bridges)
	replace(tb, d.coll.Maps["veths"], s.Veths)
	replace(tb, d.coll.Maps["uplinks4"], s.Uplinks)
	replace(tb, d.coll.Maps["host_addrs4"], s.HostAddrs)
	replace(tb, d.coll.Maps["subnets4"], s.Subnets)
	replace(tb, d.coll.Maps["publish4"], s.Publish)
	replace(tb, d.coll.Maps["peers4"], s.Peers)
	replace(tb, d.coll.Maps["peer_hosts4"], s.PeerHosts)
	if err := d.coll.Maps["overlay"].Put(uint32(0), s.Overlay); err != nil {
		tb.Fatal(err)
	}
	d.epoch++
	if err := d.coll.Maps["config"].Put(uint32(0), bpf.Config{Epoch: d.epoch, PolicySet: set}); err != nil {
		tb.Fatal(err)
	}
}

// inSet gives what a State says of rules as the maps hold it.
func inSet[K, V comparable](m map[K]V, set func(*K)) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		set(&k)
		out[k] = v
	}
	return out
}

// change is sync of the usual state with a change.
func (d *datapath) change(tb testing.TB, f func(s *state.State)) {
	tb.Helper()
	s := d.w.state()
	f(&s)
	d.sync(tb, s)
}

func replace[K comparable, V any](tb testing.TB, m *ebpf.Map, want map[K]V) {
	tb.Helper()
	empty(tb, m)
	if len(want) == 0 {
		return
	}
	keys := slices.Collect(maps.Keys(want))
	values := make([]V, len(keys))
	for i, k := range keys {
		values[i] = want[k]
	}
	_, err := m.BatchUpdate(keys, values, nil)
	if errors.Is(err, ebpf.ErrNotSupported) { // LPM tries before Linux 5.13
		err = nil
		for key, value := range want {
			err = errors.Join(err, m.Put(key, value))
		}
	}
	if err != nil {
		tb.Fatalf("fill map %s: %v", m, err)
	}
}

// empty deletes every entry. Nothing else writes meanwhile.
func empty(tb testing.TB, m *ebpf.Map) {
	tb.Helper()
	for {
		key, err := m.NextKeyBytes(nil)
		if err != nil {
			tb.Fatalf("empty map %s: %v", m, err)
		}
		if key == nil {
			return
		}
		if err := m.Delete(key); err != nil {
			tb.Fatalf("empty map %s: %v", m, err)
		}
	}
}

// ticks is the datapath's clock.
func (d *datapath) ticks(tb testing.TB) uint32 {
	tb.Helper()
	now, err := d.coll.Programs["clock"].Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		tb.Fatalf("read clock: %v", err)
	}
	return now
}

// nextTick waits until the clock has moved on: an entry looks after its partner once in a tick.
func (d *datapath) nextTick(tb testing.TB) {
	tb.Helper()
	start := d.ticks(tb)
	for i := 0; d.ticks(tb) == start; i++ {
		if i > 1_000_000 {
			tb.Fatal("the clock stands still")
		}
	}
}

// counters gives every counter that is not zero: "drop REASON", "pass REASON", and "BRIDGE PATH" with the bridge's name.
func (d *datapath) counters(tb testing.TB) map[string]uint64 {
	tb.Helper()
	all := map[string]uint64{}
	read := func(name, label string, at uint32) {
		var perCPU []bpf.Counter
		if err := d.coll.Maps[name].Lookup(at, &perCPU); err != nil {
			tb.Fatalf("read %s: %v", name, err)
		}
		for _, c := range perCPU {
			if c.Packets > 0 {
				all[label] += c.Packets
			}
		}
	}
	for i, name := range d.names.Drops {
		read("drop_stats", "drop "+name, uint32(i))
	}
	for i, name := range d.names.Passes {
		read("pass_stats", "pass "+name, uint32(i))
	}
	for bridge := range uint32(3) {
		for i, name := range d.names.Paths {
			read("path_stats", fmt.Sprintf("br%d %s", bridge, name), bridge*uint32(bpf.DatapathFlowPathPATH_MAX)+uint32(i))
		}
	}
	if kept := d.tallies(tb)[bpf.DatapathTallyTALLY_FRAGMENT_HELD]; kept > 0 {
		all[hold] = kept
	}
	return all
}

// moved gives what was added to the counters since before.
func moved(before, after map[string]uint64) map[string]uint64 {
	diff := map[string]uint64{}
	for k, v := range after {
		if v != before[k] {
			diff[k] = v - before[k]
		}
	}
	return diff
}
