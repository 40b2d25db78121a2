package packet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// watching has the programs tell what they decide from now on, and gives what takes the events that there are by then.
func (d *datapath) watching(tb testing.TB, bits bpf.MonitorBit) (events func() []bpf.Event, stop func()) {
	tb.Helper()
	ring, err := ringbuf.NewReader(d.coll.Maps["events"])
	if err != nil {
		tb.Fatal(err)
	}
	tell := func(bits bpf.MonitorBit) {
		if err := d.coll.Variables["monitor"].Set(bits); err != nil {
			tb.Fatal(err)
		}
	}
	tell(bits)
	events = func() []bpf.Event {
		if err := ring.Flush(); err != nil {
			tb.Fatal(err)
		}
		var all []bpf.Event
		for {
			r, err := ring.Read()
			if errors.Is(err, ringbuf.ErrFlushed) {
				return all
			}
			if err != nil {
				tb.Fatal(err)
			}
			if len(r.RawSample) != int(unsafe.Sizeof(bpf.Event{})) {
				tb.Fatalf("an event of %d bytes", len(r.RawSample))
			}
			all = append(all, *(*bpf.Event)(unsafe.Pointer(&r.RawSample[0])))
		}
	}
	return events, func() {
		tell(0)
		ring.Close()
	}
}

// told says of events what counters call the same.
func (d *datapath) told(events []bpf.Event) []string {
	all := []string{}
	for _, e := range events {
		switch {
		case e.Drop != 0:
			all = append(all, "drop "+d.names.Drops[e.Drop])
		case e.Pass != 0:
			all = append(all, "pass "+d.names.Passes[e.Pass])
		case e.Verdict == verdictDrop:
			all = append(all, hold)
		default:
			all = append(all, "forward")
		}
	}
	return all
}

// expectTold: L-1: what is counted as dropped or passed is told once, with its reason; what is kept or delivered is told once as such.
func (d *datapath) expectTold(tb testing.TB, h hook, what, counter string, events []bpf.Event) {
	tb.Helper()
	want := []string{}
	switch {
	case strings.HasPrefix(counter, "drop "), strings.HasPrefix(counter, "pass "), counter == hold:
		want = append(want, counter)
	case counter != "", h.prog == "to_overlay": // what enters the tunnel is counted by the kernel's device
		want = append(want, "forward")
	}
	if diff := cmp.Diff(want, d.told(events)); diff != "" {
		tb.Errorf("%s: events (-want +got):\n%s", what, diff)
	}
}

// testEventNobody: L-5: nothing is written while nobody looks, and only drops while drops are looked at.
func testEventNobody(t *testing.T, d *datapath) {
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	for _, c := range []struct {
		name string
		bits bpf.MonitorBit
		want []string
	}{
		{"L-5 nobody", 0, []string{}},
		{"L-1 drops", bpf.DatapathMonitorBitMONITOR_DROPS, []string{"drop isolated"}},
		{"L-2 all but drops", bpf.DatapathMonitorBitMONITOR_TRACE, []string{"forward", "pass not_ipv4", "forward"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			events, stop := d.watching(t, c.bits)
			defer stop()
			d.send(t, fromContainer("c1"), syn)
			d.send(t, fromContainer("c1"), syn.to("172.18.0.2:80"))
			d.send(t, fromContainer("c1"), syn.put16(atEtherType, 0x86dd))
			d.send(t, fromUplink("up0"), tcp("192.0.2.10:80", "198.51.100.1:40000", "SA"))
			if diff := cmp.Diff(c.want, d.told(events())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// testEventTold: L-2: an event tells the program, the device, both tuples, the ends, the path and the packet.
func testEventTold(t *testing.T, d *datapath) {
	type seen struct {
		Hook, Dev, Out, Path string
		Before, After        string
		From, To             uint32
		Len                  int
		Captured             int
	}
	pair := func(k bpf.FlowKey) string {
		return netip.AddrPortFrom(bpf.ToAddr(k.Saddr), bpf.ToPort(k.Sport)).String() + ">" + netip.AddrPortFrom(bpf.ToAddr(k.Daddr), bpf.ToPort(k.Dport)).String()
	}
	d.reset(t)
	events, stop := d.watching(t, bpf.DatapathMonitorBitMONITOR_TRACE|bpf.DatapathMonitorBitMONITOR_DROPS)
	defer stop()
	for _, c := range []struct {
		name string
		hook hook
		in   frame
		want seen
	}{
		{"out", fromContainer("c1"), tcp("172.17.0.2:40000", "192.0.2.10:80", "S"),
			seen{"from_container", "c1", "up0", "out", "172.17.0.2:40000>192.0.2.10:80", "198.51.100.1:40000>192.0.2.10:80", 1172, 0, 54, 54}},
		{"the answer", fromUplink("up0"), tcp("192.0.2.10:80", "198.51.100.1:40000", "SA"),
			seen{"from_uplink", "up0", "c1", "out", "192.0.2.10:80>198.51.100.1:40000", "192.0.2.10:80>172.17.0.2:40000", 0, 1172, 54, 54}},
		{"a long one", fromContainer("c1"), udp("172.17.0.2:40000", "172.17.0.3:80").data(make([]byte, 1000)),
			seen{"from_container", "c1", "c2", "local", "172.17.0.2:40000>172.17.0.3:80", "172.17.0.2:40000>172.17.0.3:80", 1172, 1173, 1042, 164}},
		{"a liar, by his device", fromContainer("c1"), udp("172.17.0.3:40000", "192.0.2.10:80").data(nil),
			seen{"from_container", "c1", "", "", "172.17.0.3:40000>192.0.2.10:80", "172.17.0.3:40000>192.0.2.10:80", 1172, 0, 42, 42}},
	} {
		t.Run("L-2 "+c.name, func(t *testing.T) {
			r := d.send(t, c.hook, c.in)
			all := events()
			if len(all) != 1 {
				t.Fatalf("%d events, want 1", len(all))
			}
			e := all[0]
			got := seen{
				Hook: d.names.Hooks[e.Hook], Dev: d.w.names[e.Ifindex], Out: d.w.names[e.Oif], Before: pair(e.Before), After: pair(e.After),
				From: e.SrcId, To: e.DstId, Len: int(e.Len), Captured: int(e.Captured),
			}
			if e.Known != 0 {
				got.Path = d.names.Paths[e.Path]
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(r.data[:c.want.Captured], e.Data[:e.Captured]); diff != "" {
				t.Errorf("packet (-as it goes on +as told):\n%s", diff)
			}
			if e.Verdict != r.verdict {
				t.Errorf("verdict %d, want %d", e.Verdict, r.verdict)
			}
		})
	}
}

// testEventFull: events that find no room are counted, and the packets pass.
func testEventFull(t *testing.T, d *datapath) {
	d.reset(t)
	events, stop := d.watching(t, bpf.DatapathMonitorBitMONITOR_DROPS)
	defer stop()
	lost := func() (n uint64) {
		if err := d.coll.Variables["events_lost"].Get(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, sent := lost(), uint64(0)
	bad := udp("172.17.0.2:40000", "172.18.0.2:80")
	for ; lost() == before && sent < 1<<20; sent++ {
		if r := d.send(t, fromContainer("c1"), bad); r.verdict != verdictDrop {
			t.Fatalf("verdict is %d", r.verdict)
		}
	}
	if got := uint64(len(events())) + lost() - before; got != sent {
		t.Errorf("%d events were told or counted as lost, want %d", got, sent)
	}
}
