package handover

import (
	"net/netip"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// K-11: what the kernel has established is entered with its translation, whatever that is, and carries nothing yet; what is not established,
// or not the bridge's containers', stays with the kernel.
func TestCarry(t *testing.T) {
	const second, lease = 100, offloadSeconds * 100
	for _, tt := range []struct {
		name   string
		e      conntrack.Entry
		edit   func(*conntrack.Entry)
		path   bpf.FlowPath
		routed bool
		left   bool // to the kernel
	}{
		{name: "out", e: entry(6, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), path: bpf.DatapathFlowPathPATH_OUT, routed: true},
		{name: "out, not translated", e: entry(17, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "172.17.0.2:5000"), path: bpf.DatapathFlowPathPATH_OUT, routed: true},
		{name: "in, by a port that is published", e: entry(17, "203.0.113.2:5000", "192.0.2.1:8080", "172.17.0.2:80", "203.0.113.2:5000"), path: bpf.DatapathFlowPathPATH_IN, routed: true},
		{name: "in, by another's rule", e: entry(6, "203.0.113.2:5000", "198.51.100.77:1", "172.17.0.2:80", "203.0.113.2:5000"), path: bpf.DatapathFlowPathPATH_IN, routed: true},
		{name: "in, both ends hidden", e: entry(6, "203.0.113.2:5000", "192.0.2.1:8080", "172.17.0.2:80", "172.17.0.1:5000"), path: bpf.DatapathFlowPathPATH_IN, routed: true},
		{name: "to a neighbour", e: entry(6, "172.17.0.2:5000", "172.17.0.3:80", "172.17.0.3:80", "172.17.0.2:5000"), path: bpf.DatapathFlowPathPATH_LOCAL},
		{name: "hairpin", e: entry(17, "172.17.0.3:5000", "192.0.2.1:8080", "172.17.0.2:80", "172.17.0.3:5000"), path: bpf.DatapathFlowPathPATH_LOCAL, routed: true},

		{name: "UDP, not assured", e: entry(17, "172.17.0.2:5000", "203.0.113.2:53", "203.0.113.2:53", "192.0.2.1:5000"), left: true,
			edit: func(e *conntrack.Entry) { e.Status &^= conntrack.Assured }},
		{name: "TCP, closing", e: entry(6, "172.17.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true,
			edit: func(e *conntrack.Entry) { e.TCP = conntrack.TCPFinWait }},
		{name: "helped", e: entry(6, "172.17.0.2:5000", "203.0.113.2:21", "203.0.113.2:21", "192.0.2.1:6000"), left: true,
			edit: func(e *conntrack.Entry) { e.Adjusted = true }},
		{name: "ping", e: entry(1, "172.17.0.2:7", "203.0.113.2:0", "203.0.113.2:0", "192.0.2.1:8"), left: true},
		{name: "the host's", e: entry(6, "192.0.2.1:5000", "172.17.0.2:80", "172.17.0.2:80", "192.0.2.1:5000"), left: true},
		{name: "to the host", e: entry(6, "172.17.0.2:5000", "172.17.0.1:80", "172.17.0.1:80", "172.17.0.2:5000"), left: true},
		{name: "another bridge's", e: entry(17, "172.18.0.2:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true},
		{name: "to another bridge's", e: entry(17, "172.17.0.2:5000", "192.0.2.1:8080", "172.18.0.2:80", "172.17.0.2:5000"), left: true},
		{name: "nobody's", e: entry(17, "10.0.0.1:5000", "203.0.113.2:80", "203.0.113.2:80", "192.0.2.1:6000"), left: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(&tt.e)
			}
			w := world()
			a, ok := w.Carry(&tt.e, second)
			if ok == tt.left {
				t.Fatalf("carried: %v", ok)
			}
			if !ok {
				return
			}
			for _, f := range []bpf.Flow{a.Flow, a.Reply} {
				if f.Path != tt.path || f.Flags&flagOffload == 0 || f.Flags&flagAnswered == 0 || (f.Flags&flagRouted != 0) != tt.routed {
					t.Errorf("path %v, flags %#x", f.Path, f.Flags)
				}
				if f.Judged != w.Now-lease || f.Synced == w.Now {
					t.Errorf("judged at %d, synced at %d; now is %d", f.Judged, f.Synced, w.Now)
				}
			}
			row := &maps.FlowRow{Key: a.Key, Flow: a.Flow}
			back, ok := Offloaded(row)
			if !ok || back.Orig != tt.e.Orig || back.Reply != tt.e.Reply {
				t.Errorf("is of %+v, want %v and %v", back, tt.e.Orig, tt.e.Reply)
			}
			// The kernel has it all the time.
			if _, ok := Entry(row, Clock{Second: second, Config: &bpf.Config{}}); ok {
				t.Error("it would be handed over")
			}
			if keys := Keys(&tt.e); (keys[0] != a.Key && keys[1] != a.Key) || !Of(&a.Flow, &tt.e) {
				t.Errorf("not found again under %+v", keys)
			}
			other := tt.e
			other.Reply.Dst = netip.MustParseAddrPort("192.0.2.1:1")
			if Of(&a.Flow, &other) {
				t.Error("taken for one that is translated otherwise")
			}
		})
	}
}
