package packet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// flowRow is an entry of the flow table.
type flowRow struct {
	key  bpf.FlowKey
	flow bpf.Flow
	new  bool // it is in flows4_new
}

func (d *datapath) flowRows(tb testing.TB) []flowRow {
	tb.Helper()
	var rows []flowRow
	for _, name := range []string{"flows4", "flows4_new"} {
		var r flowRow
		it := d.coll.Maps[name].Iterate()
		for it.Next(&r.key, &r.flow) {
			r.new = name == "flows4_new"
			rows = append(rows, r)
		}
		if err := it.Err(); err != nil {
			tb.Fatalf("list %s: %v", name, err)
		}
	}
	return rows
}

// flows describes the flow table, a line for each entry:
//
//	new local tcp 172.17.0.2:40000>192.0.2.10:80 = 198.51.100.1:40000>192.0.2.10:80 neigh up0
//
// that is, its table (new or old), the zone, the tuple, the tuple after translation, and what becomes of its packets.
func (d *datapath) flows(tb testing.TB) []string {
	tb.Helper()
	lines := []string{}
	for _, r := range d.flowRows(tb) {
		lines = append(lines, d.describeFlow(r))
	}
	slices.Sort(lines)
	return lines
}

func (d *datapath) describeFlow(r flowRow) string {
	f := r.flow
	words := []string{"old", "wire", fmt.Sprint(r.key.Proto), tuple(r.key.Saddr, r.key.Sport, r.key.Daddr, r.key.Dport)}
	if r.new {
		words[0] = "new"
	}
	if r.key.Zone == bpf.DatapathZoneZONE_LOCAL {
		words[1] = "local"
	}
	for name, number := range protocols() {
		if number == r.key.Proto {
			words[2] = name
		}
	}
	if after := tuple(f.Saddr, f.Sport, f.Daddr, f.Dport); after != words[3] {
		words = append(words, "=", after)
	}
	words = append(words, map[bpf.Verb]string{
		bpf.DatapathVerbVERB_STACK: "stack", bpf.DatapathVerbVERB_PEER: "peer", bpf.DatapathVerbVERB_DEV: "dev", bpf.DatapathVerbVERB_NEIGH: "neigh",
		bpf.DatapathVerbVERB_VXLAN: "vxlan", bpf.DatapathVerbVERB_DATAGRAM: "datagram",
	}[f.Verb])
	if f.Verb != bpf.DatapathVerbVERB_STACK {
		words = append(words, d.w.names[f.Oif])
	}
	if f.Flags&bpf.DatapathFlowFlagFLOW_KERNEL != 0 {
		words = append(words, "kernel")
	}
	return strings.Join(words, " ")
}

func tuple(saddr uint32, sport uint16, daddr uint32, dport uint16) string {
	return fmt.Sprintf("%s>%s",
		netip.AddrPortFrom(bpf.ToAddr(saddr), bpf.ToPort(sport)), netip.AddrPortFrom(bpf.ToAddr(daddr), bpf.ToPort(dport)))
}

// flowKey gives the key of a tuple in a zone.
func flowKey(zone bpf.Zone, proto, src, dst string) bpf.FlowKey {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return bpf.FlowKey{
		Saddr: bpf.Addr(s.Addr()), Daddr: bpf.Addr(d.Addr()), Sport: bpf.Port(s.Port()), Dport: bpf.Port(d.Port()),
		Proto: protocols()[proto], Zone: zone,
	}
}

func wire(proto, src, dst string) bpf.FlowKey {
	return flowKey(bpf.DatapathZoneZONE_WIRE, proto, src, dst)
}

func local(proto, src, dst string) bpf.FlowKey {
	return flowKey(bpf.DatapathZoneZONE_LOCAL, proto, src, dst)
}

// flow gives the entry of a tuple; ok is false where there is none.
func (d *datapath) flow(tb testing.TB, key bpf.FlowKey) (f bpf.Flow, ok bool) {
	tb.Helper()
	for _, name := range []string{"flows4", "flows4_new"} {
		if d.coll.Maps[name].Lookup(key, &f) == nil {
			return f, true
		}
	}
	return f, false
}

// evict takes an entry away, as an LRU map does when it is full.
func (d *datapath) evict(tb testing.TB, key bpf.FlowKey) {
	tb.Helper()
	var found bool
	for _, name := range []string{"flows4", "flows4_new"} {
		switch err := d.coll.Maps[name].Delete(key); {
		case err == nil:
			found = true
		case !isNotExist(err):
			tb.Fatalf("evict %+v: %v", key, err)
		}
	}
	if !found {
		tb.Fatalf("evict %+v: no such entry among\n%s", key, strings.Join(d.flows(tb), "\n"))
	}
}

func isNotExist(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }
