package packet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// E-7: how often a new flow finds no port when so many of all ports towards its peer are taken, by flows that are spread at random and by
// flows that lie side by side, which is worse for a search that goes from one port to the next. The figures stand in docs/nat.md.
func TestExhaustion(t *testing.T) {
	const low, high = 1024, 65535
	d := load(t, options{sizes: map[string]uint32{"flows4": 1 << 17, "flows4_new": 8192}, plain: []string{"flows4", "flows4_new"}})
	syn := func(port int) frame { return tcp(fmt.Sprintf("172.17.0.2:%d", port), "192.0.2.10:80", "S") }
	for _, tt := range []struct {
		name   string
		taken  float64
		blocks bool
		trials int
		most   float64 // of new flows that may be dropped
	}{
		{"half", 0.5, false, 2000, 0},
		{"half, side by side", 0.5, true, 2000, 0},
		{"three quarters", 0.75, false, 2000, 0},
		{"three quarters, side by side", 0.75, true, 2000, 0},
		{"nine tenths", 0.9, false, 2000, 0.002},
		{"nine tenths, side by side", 0.9, true, 2000, 0.002},
		{"99 of 100", 0.99, false, 100, 0.5},
		{"99 of 100, side by side", 0.99, true, 100, 0.5},
		{"all", 1, false, 2000, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.reset(t)
			// One that was there before, with its port.
			old := syn(2000)
			d.send(t, fromContainer("c1"), old)
			d.occupy(t, tt.taken, tt.blocks, low, high)
			random := rand.New(rand.NewPCG(7, 8))
			before := d.counters(t)
			failed := 0
			for range tt.trials {
				// Its own port is taken, so that it has to look for another.
				r := d.send(t, fromContainer("c1"), tcp(fmt.Sprintf("172.17.0.2:%d", 2001+random.IntN(60000)), "192.0.2.10:80", "S"))
				if r.verdict == verdictDrop {
					failed++
				}
			}
			t.Logf("%.0f %% taken: %d of %d new flows dropped", 100*tt.taken, failed, tt.trials)
			if rate := float64(failed) / float64(tt.trials); rate > tt.most {
				t.Errorf("%.2f %% dropped, at most %.2f %% may be", 100*rate, 100*tt.most)
			}
			if tt.taken == 1 && failed != tt.trials {
				t.Errorf("%d flows found a port where none was free", tt.trials-failed)
			}
			if got := moved(before, d.counters(t))["drop no_port"]; got != uint64(failed) {
				t.Errorf("%d dropped, %d counted under no_port", failed, got)
			}
			// Whoever has a port keeps it, whoever dials another peer finds one, and the host is not asked.
			d.expect(t, fromContainer("c1"), old, redirected("br0 out", old.from("198.51.100.1:2000").withTTL(63)))
			other := tcp("172.17.0.2:40000", "192.0.2.11:80", "S")
			d.expect(t, fromContainer("c1"), other, redirected("br0 out", other.from("198.51.100.1:40000").withTTL(63)))
			d.expect(t, toUplink("up0"), tcp("198.51.100.1:1023", "192.0.2.10:80", "S"), unseen())
		})
	}
}

// occupy enters a part of all flows that another container could have to 192.0.2.10:80, all but that by port 2000.
func (d *datapath) occupy(tb testing.TB, part float64, blocks bool, low, high int) {
	tb.Helper()
	ports := rand.New(rand.NewPCG(5, 6)).Perm(high - low + 1)
	if blocks {
		for i := range ports {
			ports[i] = i
		}
	}
	entries := map[bpf.FlowKey]bpf.Flow{}
	for _, p := range ports[:int(part*float64(len(ports)))] {
		port := uint16(low + p)
		if port == 2000 {
			continue
		}
		key := bpf.FlowKey{Saddr: addr("192.0.2.10"), Daddr: addr("198.51.100.1"), Sport: bpf.Port(80), Dport: bpf.Port(port), Proto: unix.IPPROTO_TCP}
		entries[key] = bpf.Flow{
			Saddr: addr("192.0.2.10"), Daddr: addr("172.17.0.3"), Sport: bpf.Port(80), Dport: bpf.Port(port), Flags: bpf.DatapathFlowFlagFLOW_REPLY,
			PartnerZone: bpf.DatapathZoneZONE_LOCAL, Epoch: d.epoch,
		}
	}
	keys, values := slices.Collect(maps.Keys(entries)), make([]bpf.Flow, 0, len(entries))
	for _, k := range keys {
		values = append(values, entries[k])
	}
	m := d.coll.Maps["flows4"]
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		tb.Fatalf("fill map %s: %v", m, err)
	}
	tb.Cleanup(func() {
		// Faster than one after the other.
		if _, err := m.BatchDelete(keys, nil); err != nil {
			tb.Errorf("empty map %s: %v", m, err)
		}
	})
}
