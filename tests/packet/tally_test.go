package packet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// tallies reads what the programs count of their own work.
func (d *datapath) tallies(tb testing.TB) (sums [bpf.DatapathTallyTALLY_MAX]uint64) {
	tb.Helper()
	var cpus []uint64
	for i := range sums {
		if err := d.coll.Maps["tallies"].Lookup(uint32(i), &cpus); err != nil {
			tb.Fatal(err)
		}
		for _, n := range cpus {
			sums[i] += n
		}
	}
	return sums
}

// publishedCounters reads what is counted in a slot of publish_stats.
func (d *datapath) publishedCounters(tb testing.TB, slot uint32) (sum bpf.PublishCounters) {
	tb.Helper()
	var cpus []bpf.PublishCounters
	if err := d.coll.Maps["publish_stats"].Lookup(slot, &cpus); err != nil {
		tb.Fatal(err)
	}
	for _, c := range cpus {
		sum.Connections += c.Connections
		sum.Rx.Packets += c.Rx.Packets
		sum.Rx.Bytes += c.Rx.Bytes
		sum.Tx.Packets += c.Tx.Packets
		sum.Tx.Bytes += c.Tx.Bytes
	}
	return sum
}

// testTallies: flows, the ports that were tried for them, pieces and published ports are counted exactly, whoever was refused is not. L-1
func testTallies(t *testing.T, d *datapath) {
	const slot = 7
	d.reset(t)
	s := d.w.state()
	publish(&s, "tcp", "198.51.100.1:8080", "172.17.0.2:80")
	for k, v := range s.Publish {
		v.Slot = slot
		s.Publish[k] = v
	}
	d.sync(t, s)
	before, counted := d.tallies(t), d.publishedCounters(t, slot)

	bytes := func(hook hook, f frame) uint64 { return uint64(len(d.w.addressed(hook, f).bytes())) }
	in := tcp("192.0.2.10:50000", "198.51.100.1:8080", "S")
	out := tcp("172.17.0.2:80", "192.0.2.10:50000", "SA")
	ack := tcp("192.0.2.10:50000", "198.51.100.1:8080", "A")
	d.send(t, fromUplink("up0"), in)
	d.send(t, fromContainer("c1"), out)
	d.send(t, fromUplink("up0"), ack)
	// Another flow, by another container; one to nowhere; and two who want the same port.
	d.send(t, fromContainer("c1"), udp("172.17.0.2:4000", "192.0.2.10:53"))
	d.send(t, fromContainer("c2"), udp("172.17.0.3:4000", "192.0.2.10:53"))
	d.send(t, fromContainer("c1"), tcp("172.17.0.2:40000", "172.18.0.2:80", "S"))
	// A datagram in three pieces.
	for _, piece := range udp("172.17.0.2:4000", "192.0.2.10:53").data(make([]byte, 64)).pieces(24) {
		d.send(t, fromContainer("c1"), piece)
	}

	after := d.tallies(t)
	got := map[bpf.Tally]uint64{}
	for i := range after {
		if n := after[i] - before[i]; n != 0 {
			got[bpf.Tally(i)] = n
		}
	}
	tries := got[bpf.DatapathTallyTALLY_NAT_TRIES]
	if tries < 3 || got[bpf.DatapathTallyTALLY_NAT_CONFLICT] != tries-2 {
		t.Errorf("%d tries and %d conflicts for two flows out that want the same port", tries, got[bpf.DatapathTallyTALLY_NAT_CONFLICT])
	}
	var histogram uint64
	for i := bpf.DatapathTallyTALLY_TRIES_1; i <= bpf.DatapathTallyTALLY_TRIES_128; i++ {
		histogram += got[i]
		delete(got, i)
	}
	if histogram != 2 {
		t.Errorf("tries are told of %d flows, want the two that are masqueraded", histogram)
	}
	delete(got, bpf.DatapathTallyTALLY_NAT_TRIES)
	delete(got, bpf.DatapathTallyTALLY_NAT_CONFLICT)
	want := map[bpf.Tally]uint64{
		bpf.DatapathTallyTALLY_FLOW_TCP: 1, bpf.DatapathTallyTALLY_FLOW_UDP: 2,
		bpf.DatapathTallyTALLY_FRAGMENT_FIRST: 1, bpf.DatapathTallyTALLY_FRAGMENT_LATER: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	c := d.publishedCounters(t, slot)
	published := []uint64{
		c.Connections - counted.Connections, c.Rx.Packets - counted.Rx.Packets, c.Rx.Bytes - counted.Rx.Bytes,
		c.Tx.Packets - counted.Tx.Packets, c.Tx.Bytes - counted.Tx.Bytes,
	}
	up, c1 := fromUplink("up0"), fromContainer("c1")
	if diff := cmp.Diff([]uint64{1, 2, bytes(up, in) + bytes(up, ack), 1, bytes(c1, out)}, published); diff != "" {
		t.Errorf("published port: connections, packets and bytes in, packets and bytes out (-want +got):\n%s", diff)
	}
}
