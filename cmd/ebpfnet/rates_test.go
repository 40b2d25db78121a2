package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

func TestTopView(t *testing.T) {
	at := func(at float64, drops uint64, rows ...api.EndpointActivity) api.Activity {
		return api.Activity{Instance: "x", At: at, Endpoints: rows, Drops: []api.ReasonCount{{Reason: "icc", Packets: drops}}}
	}
	row := func(id uint32, name string, rx, tx, dropped uint64) api.EndpointActivity {
		return api.EndpointActivity{ID: id, Name: name, Flows: int(id), Counters: api.EndpointCounters{
			ReceiveBytes: rx * 100, ReceivePackets: rx, TransmitBytes: tx * 100, TransmitPackets: tx, ReceiveDropped: dropped}}
	}
	got := newTopView(
		at(10, 4, row(1, "web", 100, 50, 0), row(2, "again", 1000, 1000, 9)),
		at(12, 8, row(1, "web", 300, 50, 6), row(2, "again", 10, 10, 0), row(3, "fresh", 20, 0, 0)))
	want := topView{Instance: "x", Seconds: 2,
		Endpoints: []topRow{
			{Name: "web", ReceiveBytes: 10000, ReceivePackets: 100, Drops: 3, Flows: 1},
			{Name: "again", Flows: 2},
			{Name: "fresh", ReceiveBytes: 1000, ReceivePackets: 10, Flows: 3},
		},
		Drops: []topDrop{{"icc", 8, 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for by, names := range map[string]string{
		"bytes": "web fresh again", "receive": "web fresh again", "transmit": "again fresh web", "packets": "web fresh again",
		"drops": "web again fresh", "flows": "fresh again web", "name": "again fresh web",
	} {
		got.sort(by)
		var order []string
		for _, r := range got.Endpoints {
			order = append(order, r.Name)
		}
		if s := strings.Join(order, " "); s != names {
			t.Errorf("by %s: %s, want %s", by, s, names)
		}
	}
	keys := map[byte]bool{}
	for _, by := range topOrders() {
		if keys[by[0]] || by[0] == 'q' {
			t.Errorf("key %c is taken", by[0])
		}
		keys[by[0]] = true
	}
	if s := got.summary(); s != "ebpfnet x: 3 containers receive 11.0 kB/s, send 0 B/s; dropped 2.0/s (icc)" {
		t.Errorf("summary: %s", s)
	}
	if v := newTopView(at(5, 1), at(5, 2)); v.Drops[0].Rate != 0 {
		t.Errorf("a rate of no time: %+v", v)
	}
}

func TestPerSecond(t *testing.T) {
	for want, tt := range map[string]struct {
		n    float64
		unit string
	}{
		"0 B/s": {0, "B"}, "0.4/s": {0.4, ""}, "99.9/s": {99.94, ""}, "100/s": {99.95, ""}, "999 B/s": {999.4, "B"}, "1.0 kB/s": {999.5, "B"},
		"123k/s": {123456, ""}, "1.3 GB/s": {1.26e9, "B"}, "5000 TB/s": {5e15, "B"},
	} {
		if got := perSecond(tt.n, tt.unit); got != want {
			t.Errorf("%g: %s, want %s", tt.n, got, want)
		}
	}
}

// What is printed moves no cursor, whatever a name holds.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\nd\u009b2J\u202eé"); got != "a?[2Jb?c?d?2J?é" {
		t.Errorf("%q", got)
	}
}
