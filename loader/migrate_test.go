package loader

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

func TestConvert(t *testing.T) {
	from := fields{"a": {0, 2}, "gone": {2, 2}, "b[0]": {4, 1}, "wide": {8, 4}}
	to := fields{"wide": {0, 2}, "new": {2, 2}, "a": {4, 4}, "b[0]": {8, 1}}
	for _, tt := range []struct {
		name string
		old  []byte
		want []byte // nil: it does not fit
	}{
		{"moved, grown, shrunk", []byte{1, 2, 9, 9, 5, 0, 0, 0, 7, 8, 0, 0}, []byte{7, 8, 0, 0, 1, 2, 0, 0, 5, 0, 0, 0}},
		{"too large", []byte{1, 2, 9, 9, 5, 0, 0, 0, 7, 8, 1, 0}, nil},
	} {
		got := make([]byte, 12)
		ok := convert(got, tt.old, moves(from, to))
		if ok != (tt.want != nil) || ok && !bytes.Equal(got, tt.want) {
			t.Errorf("%s: convert() = %v, %v, want %v", tt.name, got, ok, tt.want)
		}
	}
}

// laterSpecs is emptySpecs of a version whose flow entries have a field more, in their middle, and so have its endpoints.
func laterSpecs(t *testing.T) specs {
	t.Helper()
	s := emptySpecs(t)
	word := &btf.Int{Name: "__u32", Size: 4}
	widen := func(typ btf.Type, after string) btf.Type {
		old, ok := btf.UnderlyingType(typ).(*btf.Struct)
		if !ok {
			t.Fatalf("%v is no struct", typ)
		}
		wider := &btf.Struct{Name: old.Name, Size: old.Size + 8}
		shift := btf.Bits(0)
		for _, m := range old.Members {
			m.Offset += shift
			wider.Members = append(wider.Members, m)
			if m.Name == after {
				size, err := btf.Sizeof(m.Type)
				if err != nil {
					t.Fatal(err)
				}
				wider.Members = append(wider.Members, btf.Member{Name: "later", Type: word, Offset: m.Offset + btf.Bits(8*size)})
				shift = 64
			}
		}
		return wider
	}
	for _, spec := range []*ebpf.CollectionSpec{s.tc, s.sock} {
		for name, after := range map[string]string{bpf.DatapathMapFlows4: "daddr", bpf.DatapathMapFlows4New: "daddr", bpf.DatapathMapEndpoints4: "id"} {
			if m := spec.Maps[name]; m != nil {
				m.Value = widen(m.Value, after)
				m.ValueSize += 8
			}
		}
	}
	return s
}

// K-5: a version with another layout takes over every entry, and those that come until its programs are attached; so does the one before it,
// on the way back.
func TestMigrate(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	later := p
	later.Maps = filepath.Join(p.BPFFS, "v99", "maps")

	key := func(port uint16) bpf.FlowKey {
		return bpf.FlowKey{Saddr: 1, Daddr: 2, Sport: port, Dport: 4, Proto: 6, Zone: 1}
	}
	flow := bpf.Flow{Saddr: 11, Daddr: 12, Sport: 13, Verb: 3, Flags: 5, Iif: 14, Dmac: [6]uint8{1, 2, 3, 4, 5, 6}, Epoch: 15, SrcId: 16, Packets: 1 << 40, Bytes: 1<<41 + 1}
	endpoint := bpf.Endpoint{Id: 7, Ifindex: 8, Bridge: 9, Slot: 10, Mtu: 1500, Mac: [6]uint8{9, 8, 7}}
	d := loadEmpty(t, p, f)
	for _, err := range []error{
		d.TC.Flows4.Put(key(1), flow), d.TC.Flows4New.Put(key(2), flow),
		d.TC.Endpoints4.Put(bpf.AddrKey{Addr: 5}, endpoint),
		d.TC.Config.Put(uint32(0), bpf.Config{Epoch: 77, NextId: 78}),
		d.TC.Subnets4.Put(bpf.PrefixKey{Prefixlen: 16, Addr: 99}, bpf.Subnet{Bridge: 9}),
		d.TC.EndpointStats.Put(uint32(10), perCPU(t, bpf.EndpointCounters{Rx: bpf.Counter{Packets: 3}, TxDropped: 4})),
		d.TC.PeerStats.Put(bpf.AddrKey{Addr: 6}, perCPU(t, bpf.PeerCounters{Tx: bpf.Counter{Packets: 5}, Seen: 6})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	up, err := load(later, f, smallSettings(), laterSpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if n := up.Migrated(); n < 7 {
		t.Errorf("Migrated() = %d", n)
	}
	// The old programs are still at it.
	if err := d.TC.Flows4.Put(key(3), flow); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := up.Settle(); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Dir(p.Maps)) {
		t.Error("the old maps are still pinned")
	}
	value := make([]byte, up.TC.Flows4.ValueSize())
	if err := up.TC.Flows4.Lookup(key(1), &value); err != nil || value[4] != 12 || !bytes.Equal(value[8:16], make([]byte, 8)) || value[16] != 13 {
		t.Errorf("an entry in the later layout: %v, %v", value, err)
	}

	back := loadEmpty(t, p, f)
	if err := back.Settle(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		m   *ebpf.Map
		key bpf.FlowKey
	}{{back.TC.Flows4, key(1)}, {back.TC.Flows4New, key(2)}, {back.TC.Flows4, key(3)}} {
		var got bpf.Flow
		if err := e.m.Lookup(e.key, &got); err != nil {
			t.Errorf("port %d: %v", e.key.Sport, err)
		} else if diff := cmp.Diff(flow, got); diff != "" {
			t.Errorf("port %d: %s", e.key.Sport, diff)
		}
	}
	var gotEndpoint bpf.Endpoint
	var gotConfig bpf.Config
	var gotSubnet bpf.Subnet
	var gotCounters []bpf.EndpointCounters
	var gotPeer []bpf.PeerCounters
	for _, err := range []error{
		back.TC.Endpoints4.Lookup(bpf.AddrKey{Addr: 5}, &gotEndpoint), back.TC.Config.Lookup(uint32(0), &gotConfig),
		back.TC.Subnets4.Lookup(bpf.PrefixKey{Prefixlen: 32, Addr: 99}, &gotSubnet), back.TC.EndpointStats.Lookup(uint32(10), &gotCounters),
		back.TC.PeerStats.Lookup(bpf.AddrKey{Addr: 6}, &gotPeer),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if gotEndpoint != endpoint || gotConfig.Epoch != 77 || gotConfig.NextId != 78 || gotSubnet.Bridge != 9 || gotCounters[0].Rx.Packets != 3 || gotCounters[0].TxDropped != 4 || gotPeer[0].Tx.Packets != 5 || gotPeer[0].Seen != 6 {
		t.Errorf("endpoint %+v, config %+v, subnet %+v, counters %+v", gotEndpoint, gotConfig, gotSubnet, gotCounters)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.BPFFS); err == nil {
		t.Error("something is left")
	}
}

// perCPU is a value of a per-CPU map, on the first CPU.
func perCPU[T any](t *testing.T, first T) []T {
	t.Helper()
	n, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]T, n)
	all[0] = first
	return all
}

// K-5: a layout whose entries changed without its number is refused, and left as it is.
func TestSameNumber(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, "")
	loadEmpty(t, p, f).Close()
	before := pins(t, p)
	s := emptySpecs(t)
	for _, spec := range []*ebpf.CollectionSpec{s.tc, s.sock} {
		if m := spec.Maps[bpf.DatapathMapEndpoints4]; m != nil {
			typ := btf.UnderlyingType(m.Value).(*btf.Struct)
			swapped := *typ
			swapped.Members = append([]btf.Member(nil), typ.Members...)
			swapped.Members[0].Name, swapped.Members[1].Name = typ.Members[1].Name, typ.Members[0].Name
			m.Value = &swapped
		}
	}
	if _, err := load(p, f, smallSettings(), s); err == nil || !strings.Contains(err.Error(), "endpoints4 is of another version") {
		t.Errorf("Load() = %v", err)
	}
	if diff := cmp.Diff(before, pins(t, p)); diff != "" {
		t.Error(diff)
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
}
