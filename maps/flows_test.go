package maps

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

const (
	wire  = bpf.DatapathZoneZONE_WIRE
	local = bpf.DatapathZoneZONE_LOCAL
)

// entry is one of a flow's two entries.
type entry struct {
	key  bpf.FlowKey
	flow bpf.Flow
}

// newFlow gives both entries of a flow: a tuple in a zone, and what it becomes in another.
func newFlow(proto uint8, src, dst string, sport, dport uint16, zone bpf.Zone, nsrc, ndst string, nsport, ndport uint16, nzone bpf.Zone) (orig, reply entry) {
	orig = entry{
		bpf.FlowKey{Saddr: addr(src), Daddr: addr(dst), Sport: bpf.Port(sport), Dport: bpf.Port(dport), Proto: proto, Zone: zone},
		bpf.Flow{Saddr: addr(nsrc), Daddr: addr(ndst), Sport: bpf.Port(nsport), Dport: bpf.Port(ndport), PartnerZone: nzone,
			Path: bpf.DatapathFlowPathPATH_OUT, SrcId: 1, DstId: 2},
	}
	reply = entry{
		bpf.FlowKey{Saddr: addr(ndst), Daddr: addr(nsrc), Sport: bpf.Port(ndport), Dport: bpf.Port(nsport), Proto: proto, Zone: nzone},
		bpf.Flow{Saddr: addr(dst), Daddr: addr(src), Sport: bpf.Port(dport), Dport: bpf.Port(sport), PartnerZone: zone,
			Path: bpf.DatapathFlowPathPATH_OUT, Flags: bpf.DatapathFlowFlagFLOW_REPLY, SrcId: 2, DstId: 1},
	}
	return orig, reply
}

// masqueraded is the flow of a container to 198.51.100.1:443 from one of its ports.
func masqueraded(sport uint16) (orig, reply entry) {
	return newFlow(6, "172.17.0.2", "198.51.100.1", sport, 443, local, "192.0.2.10", "198.51.100.1", sport, 443, wire)
}

func put(t testing.TB, m *ebpf.Map, entries ...entry) {
	t.Helper()
	for _, e := range entries {
		if err := m.Put(&e.key, &e.flow); err != nil {
			t.Fatal(err)
		}
	}
}

// has tells whether either flow table has the entry.
func has(t testing.TB, m *Maps, e entry) bool {
	t.Helper()
	var f bpf.Flow
	table, err := m.findFlow(&e.key, &f)
	if err != nil {
		t.Fatal(err)
	}
	return table != nil
}

func TestFlows(t *testing.T) {
	m, o := newMaps(t, nil)
	both, bothReply := masqueraded(1001)
	both.flow.Packets, bothReply.flow.Packets = 7, 5
	put(t, o.Flows4, both, bothReply)
	fresh, freshReply := masqueraded(1002)
	put(t, o.Flows4New, fresh, freshReply)
	plain, plainReply := newFlow(17, "172.17.0.2", "172.17.0.3", 53, 53, local, "172.17.0.2", "172.17.0.3", 53, 53, local)
	put(t, o.Flows4, plain, plainReply)
	half, _ := masqueraded(1003)
	put(t, o.Flows4, half)
	orphan, orphanReply := masqueraded(1004)
	orphanReply.flow.Packets, orphanReply.flow.Tcp = 9, bpf.DatapathTcpSeenTCP_SYN
	put(t, o.Flows4, orphanReply)
	moving, movingReply := masqueraded(1005) // between the two tables
	put(t, o.Flows4, moving, movingReply)
	put(t, o.Flows4New, moving, movingReply)
	taken, _ := masqueraded(1006) // another flow has the tuple of its answers now
	put(t, o.Flows4, taken)
	taker, takerReply := newFlow(6, "172.17.0.9", "198.51.100.1", 1006, 443, local, "192.0.2.10", "198.51.100.1", 1006, 443, wire)
	put(t, o.Flows4, taker, takerReply)

	type row struct {
		New, Reply      bool
		Packets, Reply2 uint64
	}
	want := map[bpf.FlowKey]row{
		both.key: {Reply: true, Packets: 7, Reply2: 5}, fresh.key: {New: true, Reply: true}, plain.key: {Reply: true}, half.key: {},
		orphan.key: {Reply: true, Reply2: 9}, moving.key: {New: true, Reply: true}, taken.key: {}, taker.key: {Reply: true},
	}
	got := make(map[bpf.FlowKey]row)
	err := m.Flows(func(r *FlowRow) bool {
		if _, twice := got[r.Key]; twice {
			t.Errorf("%v twice", r.Key)
		}
		x := row{New: r.New, Reply: r.Reply != nil, Packets: r.Flow.Packets}
		if r.Reply != nil {
			x.Reply2 = r.Reply.Packets
		}
		got[r.Key] = x
		if r.Key == orphan.key {
			made := orphan.flow
			made.Tcp = bpf.DatapathTcpSeenTCP_SYN
			if diff := cmp.Diff(made, r.Flow); diff != "" {
				t.Errorf("made up from the reply (-want +got)\n%s", diff)
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	n := 0
	if err := m.Flows(func(*FlowRow) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("stopped after %d, %v", n, err)
	}
}

// L-3: the listing ends, has every flow that lasts and none twice, however much comes and goes meanwhile.
func TestFlowsWhileTheyChange(t *testing.T) {
	const lasting = 3000
	m, o := newMaps(t, map[string]uint32{bpf.DatapathMapFlows4: 65536, bpf.DatapathMapFlows4New: 65536})
	for i := range uint16(lasting) {
		orig, reply := masqueraded(1 + i)
		put(t, o.Flows4, orig, reply)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint16(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			orig, reply := masqueraded(lasting + 1 + i%20000)
			put(t, o.Flows4New, orig, reply)
			old, oldReply := masqueraded(lasting + 1 + (i+10000)%20000)
			put(t, o.Flows4, orig, reply)
			_ = o.Flows4New.Delete(&orig.key)
			_ = o.Flows4New.Delete(&reply.key)
			_ = o.Flows4.Delete(&old.key)
			_ = o.Flows4.Delete(&oldReply.key)
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 10 {
		seen := make(map[bpf.FlowKey]bool)
		last := 0
		err := m.Flows(func(r *FlowRow) bool {
			if seen[r.Key] {
				t.Errorf("port %d twice", bpf.ToPort(r.Key.Sport))
			}
			seen[r.Key] = true
			if bpf.ToPort(r.Key.Sport) <= lasting {
				last++
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if last != lasting {
			t.Errorf("%d of the flows that last, want %d", last, lasting)
		}
	}
}

// The listing and the sweep take little memory however many flows there are.
func TestFlowsMemory(t *testing.T) {
	m, o := newMaps(t, map[string]uint32{bpf.DatapathMapFlows4: 131072})
	fill(t, o.Flows4, 50000)
	cfg := bpf.Config{TcpEstablished: 1000}
	for name, walk := range map[string]func() error{
		"Flows":  func() error { return m.Flows(func(*FlowRow) bool { return true }) },
		"Expire": func() error { _, err := m.Expire(0, cfg); return err },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := walk(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// fill writes n masqueraded flows of one container.
func fill(t testing.TB, table *ebpf.Map, n int) {
	t.Helper()
	var keys []bpf.FlowKey
	var flows []bpf.Flow
	for i := range n {
		dst := fmt.Sprintf("198.51.%d.1", i/60000)
		port := uint16(1 + i%60000)
		orig, reply := newFlow(6, "172.17.0.2", dst, port, 443, local, "192.0.2.10", dst, port, 443, wire)
		keys = append(keys, orig.key, reply.key)
		flows = append(flows, orig.flow, reply.flow)
	}
	if _, err := table.BatchUpdate(keys, flows, nil); err != nil {
		t.Fatal(err)
	}
}

// On kernels without batches the tables are walked key by key.
func TestScanSinglyWhileItChanges(t *testing.T) {
	_, o := newMaps(t, nil)
	fill(t, o.Flows4, 500)
	churn := 0
	seen := make(map[bpf.FlowKey]bool)
	b := &flowBuffer{keys: make([]bpf.FlowKey, 16), values: make([]bpf.Flow, 16)}
	err := scanSingly(o.Flows4, b, func(keys []bpf.FlowKey, _ []bpf.Flow) (bool, error) {
		for _, k := range keys {
			if seen[k] {
				t.Errorf("%v twice", k)
			}
			seen[k] = true
		}
		// The key that the walk stands on goes, which sends it back to the beginning.
		if churn < 20 && len(keys) > 0 {
			churn++
			return true, o.Flows4.Delete(&keys[len(keys)-1])
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1000 {
		t.Errorf("%d entries seen, want 1000", len(seen))
	}
}

// A bucket with more entries than the buffer makes the buffer grow.
func TestScanSmallBuffer(t *testing.T) {
	_, o := newMaps(t, nil)
	fill(t, o.Flows4, 500)
	b := &flowBuffer{keys: make([]bpf.FlowKey, 1), values: make([]bpf.Flow, 1)}
	n := 0
	err := scan(o.Flows4, b, func(keys []bpf.FlowKey, _ []bpf.Flow) (bool, error) { n += len(keys); return true, nil })
	if err != nil || n != 1000 {
		t.Errorf("%d entries, %v", n, err)
	}
	if len(b.keys) == 1 {
		t.Error("no bucket was larger than the buffer: the test shows nothing")
	}
}

// What listing and sweeping cost.
func BenchmarkFlows(b *testing.B) {
	m, o := newMaps(b, map[string]uint32{bpf.DatapathMapFlows4: 524288})
	fill(b, o.Flows4, 200000)
	cfg := bpf.Config{TcpEstablished: 1000}
	b.Run("list 200000", func(b *testing.B) {
		for b.Loop() {
			if err := m.Flows(func(*FlowRow) bool { return true }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sweep 200000", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.Expire(0, cfg); err != nil {
				b.Fatal(err)
			}
		}
	})
}
