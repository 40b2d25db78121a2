package maps

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// mustSync syncs, and checks through another Maps that the kernel holds exactly what was wanted.
func mustSync(t testing.TB, m *Maps, want State) Changes {
	t.Helper()
	c, err := m.Sync(want)
	if err != nil {
		t.Fatal(err)
	}
	checkKernel(t, m, want)
	return c
}

func checkKernel(t testing.TB, m *Maps, want State) {
	t.Helper()
	got, err := New(m.o).Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the maps are not what was wanted (-want +got)\n%s", diff)
	}
}

func TestSync(t *testing.T) {
	m, _ := newMaps(t, nil)
	mustSync(t, m, State{})
	for _, step := range []struct {
		name   string
		change func(*State)
		want   []TableChanges
	}{
		{"first", func(*State) {}, []TableChanges{
			{bpf.DatapathMapClasses4, 1, 0, 0}, {bpf.DatapathMapPairs, 1, 0, 0}, {bpf.DatapathMapProfiles, 3, 0, 0},
			{bpf.DatapathMapBridges4, 1, 0, 0}, {bpf.DatapathMapSubnets4, 1, 0, 0}, {bpf.DatapathMapHostAddrs4, 3, 0, 0},
			{bpf.DatapathMapUplinks4, 1, 0, 0}, {bpf.DatapathMapEndpoints4, 2, 0, 0}, {bpf.DatapathMapVeths, 2, 0, 0},
			{bpf.DatapathMapOverlay, 0, 1, 0}, {bpf.DatapathMapPeerHosts4, 1, 0, 0}, {bpf.DatapathMapPeers4, 2, 0, 0},
			{bpf.DatapathMapPublishFrom4, 1, 0, 0}, {bpf.DatapathMapPublish4, 2, 0, 0}}},
		{"nothing", func(*State) {}, nil},
		{"a container restarts", func(s *State) {
			s.Endpoints[addrKey("172.17.0.2")] = bpf.Endpoint{Id: 3, Ifindex: 13, Bridge: 3, Slot: 2, Mtu: 1500, Mac: [6]uint8{2, 0, 0, 0, 0, 3}}
			delete(s.Veths, 11)
			s.Veths[13] = bpf.Veth{Bridge: 3, Id: 3, Slot: 2}
			s.Publish[bpf.PublishKey{Port: bpf.Port(80), Proto: 6}] = bpf.Publish{Addr: addr("172.17.0.2"), Port: bpf.Port(8080), Id: 3}
			s.NextID = 4
		}, []TableChanges{{bpf.DatapathMapEndpoints4, 0, 1, 0}, {bpf.DatapathMapVeths, 1, 0, 1}, {bpf.DatapathMapPublish4, 0, 1, 0}}},
		{"only an id was used up", func(s *State) { s.NextID = 9 }, nil},
		{"everything goes", func(s *State) { *s = State{NextID: 9} }, []TableChanges{
			{bpf.DatapathMapBridges4, 0, 0, 1}, {bpf.DatapathMapSubnets4, 0, 0, 1}, {bpf.DatapathMapHostAddrs4, 0, 0, 3},
			{bpf.DatapathMapUplinks4, 0, 0, 1}, {bpf.DatapathMapEndpoints4, 0, 0, 2}, {bpf.DatapathMapVeths, 0, 0, 2},
			{bpf.DatapathMapOverlay, 0, 1, 0}, {bpf.DatapathMapPeerHosts4, 0, 0, 1}, {bpf.DatapathMapPeers4, 0, 0, 2},
			{bpf.DatapathMapPublishFrom4, 0, 0, 1}, {bpf.DatapathMapPublish4, 0, 0, 2}}},
	} {
		before, err := m.Config()
		if err != nil {
			t.Fatal(err)
		}
		want := someState()
		if m.have.NextID > want.NextID { // the steps follow on each other
			want = *m.have
			want.Endpoints, want.Veths, want.Publish = clone(want.Endpoints), clone(want.Veths), clone(want.Publish)
		}
		step.change(&want)
		got := mustSync(t, m, want)
		if diff := cmp.Diff(step.want, got.Tables); diff != "" {
			t.Errorf("%s: changes (-want +got)\n%s", step.name, diff)
		}
		after, err := m.Config()
		if err != nil {
			t.Fatal(err)
		}
		epoch := before.Epoch
		if step.want != nil {
			epoch++
		}
		if after.Epoch != epoch || got.Epoch != epoch {
			t.Errorf("%s: epoch %d, told as %d, want %d", step.name, after.Epoch, got.Epoch, epoch)
		}
		if after.NextId != want.NextID {
			t.Errorf("%s: next id %d, want %d", step.name, after.NextId, want.NextID)
		}
	}
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// An agent that comes back finds what is there, and writes nothing where nothing has changed.
func TestSyncAfterRestart(t *testing.T) {
	m, o := newMaps(t, nil)
	first := mustSync(t, m, someState())
	again := New(o)
	have, err := again.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someState(), have); diff != "" {
		t.Errorf("loaded (-want +got)\n%s", diff)
	}
	c := mustSync(t, again, someState())
	if c.Any() || c.Epoch != first.Epoch {
		t.Errorf("wrote %s, epoch %d", c, c.Epoch)
	}
	// A state that does not know the next id leaves it.
	want := someState()
	want.NextID = 0
	if c, err := New(o).Sync(want); err != nil || c.Any() {
		t.Errorf("wrote %s, %v", c, err)
	}
	if cfg, err := m.Config(); err != nil || cfg.NextId != 3 {
		t.Errorf("next id %d, %v", cfg.NextId, err)
	}
}

func TestResync(t *testing.T) {
	m, o := newMaps(t, nil)
	mustSync(t, m, someState())
	stranger := bpf.Endpoint{Id: 77}
	for _, err := range []error{
		o.Endpoints4.Put(addrKey("10.0.0.1"), &stranger),
		o.Veths.Delete(uint32(11)),
		o.Publish4.Put(&bpf.PublishKey{Port: bpf.Port(80), Proto: 6}, &bpf.Publish{Id: 99}),
		o.Subnets4.Delete(&bpf.PrefixKey{Prefixlen: 16, Addr: addr("172.17.0.0")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c, err := m.Sync(someState()); err != nil || c.Any() {
		t.Errorf("Sync looked at the kernel: %s, %v", c, err)
	}
	c, err := m.Resync(someState())
	if err != nil {
		t.Fatal(err)
	}
	checkKernel(t, m, someState())
	want := []TableChanges{{bpf.DatapathMapSubnets4, 1, 0, 0}, {bpf.DatapathMapEndpoints4, 0, 0, 1}, {bpf.DatapathMapVeths, 1, 0, 0},
		{bpf.DatapathMapPublish4, 0, 1, 0}}
	if diff := cmp.Diff(want, c.Tables); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What somebody else deleted is no error when it has to be deleted.
func TestSyncDeletesWhatIsGone(t *testing.T) {
	m, o := newMaps(t, nil)
	mustSync(t, m, someState())
	if err := o.Publish4.Delete(&bpf.PublishKey{Port: bpf.Port(80), Proto: 6}); err != nil {
		t.Fatal(err)
	}
	if err := o.Veths.Delete(uint32(12)); err != nil {
		t.Fatal(err)
	}
	mustSync(t, m, State{NextID: 3})
}

func TestSyncFull(t *testing.T) {
	ports := func(first, n int) map[bpf.PublishKey]bpf.Publish {
		out := make(map[bpf.PublishKey]bpf.Publish)
		for p := first; p < first+n; p++ {
			out[bpf.PublishKey{Port: bpf.Port(uint16(p)), Proto: 6}] = bpf.Publish{Addr: addr("172.17.0.2"), Port: bpf.Port(uint16(p)), Id: 1}
		}
		return out
	}
	m, _ := newMaps(t, map[string]uint32{bpf.DatapathMapPublish4: 100, bpf.DatapathMapSubnets4: 1})
	full := State{Publish: ports(1, 100), NextID: 1}
	mustSync(t, m, full)
	var fe *FullError

	mustSync(t, m, State{Publish: ports(1, 50), NextID: 1})
	_, err := m.Sync(State{Publish: ports(1, 101), NextID: 1})
	if !errors.As(err, &fe) || err.Error() != "map publish4 is full at 100 entries: raise the setting published" {
		t.Fatalf("error = %v", err)
	}
	mustSync(t, m, State{Publish: ports(1, 50), NextID: 1}) // also what was written before there was no room
	mustSync(t, m, full)

	// As many others fit in their place.
	mustSync(t, m, State{Publish: ports(1000, 100), NextID: 1})

	two := State{Subnets: map[bpf.PrefixKey]bpf.Subnet{{Prefixlen: 16, Addr: addr("10.1.0.0")}: {Bridge: 1}, {Prefixlen: 16, Addr: addr("10.2.0.0")}: {Bridge: 2}},
		Publish: ports(1, 10), NextID: 1}
	_, err = m.Sync(two)
	if !errors.As(err, &fe) || err.Error() != "map subnets4 is full at 1 entries" {
		t.Fatalf("error = %v", err)
	}
	// The rest is written all the same.
	have, err := New(m.o).Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(two.Publish, have.Publish); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Where old and new entries do not fit together, the old ones go first.
func TestSyncMakesRoom(t *testing.T) {
	m, _ := newMaps(t, map[string]uint32{bpf.DatapathMapEndpoints4: 1})
	mustSync(t, m, lonely(1))
	mustSync(t, m, lonely(2))
}

// lonely is a state with one endpoint, of the given id, and one port that leads to it.
func lonely(id uint32) State {
	a := addr("172.17.0.0") | id<<16
	return State{NextID: id + 1,
		Endpoints: map[bpf.AddrKey]bpf.Endpoint{{Addr: a}: {Id: id}},
		Publish:   map[bpf.PublishKey]bpf.Publish{{Port: bpf.Port(80), Proto: 6}: {Addr: a, Id: id}}}
}

// At no moment does a published port lead to an endpoint that is not there: it comes later and goes earlier.
func TestSyncOrder(t *testing.T) {
	m, o := newMaps(t, nil)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		seen := 0
		defer func() { done <- seen }()
		key := bpf.PublishKey{Port: bpf.Port(80), Proto: 6}
		for {
			select {
			case <-stop:
				return
			default:
			}
			var before, after bpf.Publish
			var ep bpf.Endpoint
			if o.Publish4.Lookup(&key, &before) != nil {
				continue
			}
			missing := o.Endpoints4.Lookup(&bpf.AddrKey{Addr: before.Addr}, &ep) != nil
			// Ids are never used again, so the same one means that the port has stood there all along.
			if missing && o.Publish4.Lookup(&key, &after) == nil && after == before {
				t.Errorf("the port leads to endpoint %d, which is not there", before.Id)
				return
			}
			seen++
		}
	}()
	for id := uint32(1); id < 1000; id++ {
		for _, s := range []State{lonely(id), {NextID: id + 1}} {
			if _, err := m.Sync(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	if <-done == 0 {
		t.Error("the port was never seen")
	}
}

func TestSyncLPMSingly(t *testing.T) {
	_, o := newMaps(t, nil)
	want := make(map[bpf.PrefixKey]bpf.Subnet)
	for i := range uint32(1500) { // more than the buffer holds
		k := bpf.PrefixKey{Prefixlen: 24, Addr: addr("10.0.0.0") | (i&0xff)<<8 | (i>>8)<<16}
		want[k] = bpf.Subnet{Bridge: i}
		if err := o.Subnets4.Put(&k, &bpf.Subnet{Bridge: i}); err != nil {
			t.Fatal(err)
		}
	}
	for name, fn := range map[string]func(*ebpf.Map, *buffer[bpf.PrefixKey, bpf.Subnet], func([]bpf.PrefixKey, []bpf.Subnet) (bool, error)) error{
		"in batches": scan[bpf.PrefixKey, bpf.Subnet], "singly": scanSingly[bpf.PrefixKey, bpf.Subnet],
	} {
		got := make(map[bpf.PrefixKey]bpf.Subnet)
		err := fn(o.Subnets4, newBuffer[bpf.PrefixKey, bpf.Subnet](), func(keys []bpf.PrefixKey, values []bpf.Subnet) (bool, error) {
			for i, k := range keys {
				if _, twice := got[k]; twice {
					t.Errorf("%s: %v twice", name, k)
				}
				got[k] = values[i]
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNextEpoch(t *testing.T) {
	for epoch, want := range map[uint32]uint32{0: 1, 1: 2, 0xffffffff: 1} {
		if got := nextEpoch(epoch); got != want {
			t.Errorf("nextEpoch(%d) = %d, want %d", epoch, got, want)
		}
	}
}

func TestFill(t *testing.T) {
	m, _ := newMaps(t, map[string]uint32{bpf.DatapathMapPublish4: 1000})
	if m.Fill() != nil {
		t.Error("fill is known before anything was read")
	}
	mustSync(t, m, someState())
	for _, f := range m.Fill() {
		if f.Name == bpf.DatapathMapPublish4 && (f.Entries != 2 || f.Capacity != 1000) {
			t.Errorf("%+v", f)
		}
	}
}

// H-12: what publishing ranges costs in the kernel.
func BenchmarkSync(b *testing.B) {
	for _, bc := range []struct {
		name  string
		ports int
	}{{"10000 ports", 10000}, {"65535 ports", 65535}} {
		b.Run(bc.name, func(b *testing.B) {
			m, _ := newMaps(b, nil)
			with := someState()
			for p := 1; p <= bc.ports; p++ {
				with.Publish[bpf.PublishKey{Port: bpf.Port(uint16(p)), Proto: 17}] = bpf.Publish{Addr: addr("172.17.0.2"), Port: bpf.Port(uint16(p)), Id: 1}
			}
			for b.Loop() {
				for _, s := range []State{with, someState()} {
					if _, err := m.Sync(s); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
