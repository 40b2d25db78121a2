package agent

import (
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fakeFDB is a table whose entries are told by port and address, as the kernel's are.
type fakeFDB struct {
	entries map[fdbEntry]netlink.Neigh
	writes  int
}

func (f *fakeFDB) List() ([]netlink.Neigh, error) {
	var l []netlink.Neigh
	for _, n := range f.entries {
		l = append(l, n)
	}
	return l, nil
}

func (f *fakeFDB) Set(n *netlink.Neigh) error {
	f.writes++
	f.put(*n)
	return nil
}

func (f *fakeFDB) Del(n *netlink.Neigh) error {
	f.writes++
	e := fdbEntry{n.LinkIndex, [6]byte(n.HardwareAddr)}
	if _, ok := f.entries[e]; !ok {
		return unix.ENOENT
	}
	delete(f.entries, e)
	return nil
}

func (f *fakeFDB) put(n netlink.Neigh) {
	n.MasterIndex = 1
	f.entries[fdbEntry{n.LinkIndex, [6]byte(n.HardwareAddr)}] = n
}

func (f *fakeFDB) ports() []int {
	var p []int
	for e, n := range f.entries {
		if ours(n) {
			p = append(p, e.port)
		}
	}
	slices.Sort(p)
	return p
}

// G-9
func TestSyncFDB(t *testing.T) {
	entry := func(port int, last byte) fdbEntry { return fdbEntry{port, [6]byte{2, 0, 0, 0, 0, last}} }
	learnt := func(port int, last byte) netlink.Neigh {
		m := entry(port, last).mac
		return netlink.Neigh{LinkIndex: port, State: netlink.NUD_REACHABLE, HardwareAddr: net.HardwareAddr(m[:])}
	}
	static := func(port int, last byte) netlink.Neigh {
		n := learnt(port, last)
		n.State = netlink.NUD_NOARP
		return n
	}
	sticky := func(port int, last byte) netlink.Neigh {
		n := static(port, last)
		n.Flags = netlink.NTF_STICKY
		return n
	}
	tests := []struct {
		name   string
		before []netlink.Neigh
		ports  []int
		want   []fdbEntry
		after  []int // ports of the entries that are ours
		writes int
	}{
		{name: "new", ports: []int{5, 6}, want: []fdbEntry{entry(5, 1), entry(6, 2)}, after: []int{5, 6}, writes: 2},
		{name: "learnt", before: []netlink.Neigh{learnt(5, 1)}, ports: []int{5}, want: []fdbEntry{entry(5, 1)}, after: []int{5}, writes: 1},
		{name: "settled", before: []netlink.Neigh{sticky(5, 1)}, ports: []int{5}, want: []fdbEntry{entry(5, 1)}, after: []int{5}},
		{name: "an administrator's", before: []netlink.Neigh{static(5, 1)}, ports: []int{5}, want: []fdbEntry{entry(5, 1)}},
		{name: "address changed", before: []netlink.Neigh{sticky(5, 1)}, ports: []int{5}, want: []fdbEntry{entry(5, 9)}, after: []int{5},
			writes: 2},
		{name: "taken off", before: []netlink.Neigh{sticky(5, 1), static(6, 2)}, ports: []int{5, 6}, writes: 1},
		{name: "another bridge's", before: []netlink.Neigh{sticky(7, 1)}, ports: []int{5}, after: []int{7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := &fakeFDB{entries: map[fdbEntry]netlink.Neigh{}}
			for _, n := range tt.before {
				table.put(n)
			}
			ports, want := map[int]bool{}, map[fdbEntry]bool{}
			for _, p := range tt.ports {
				ports[p] = true
			}
			for _, e := range tt.want {
				want[e] = true
			}
			if err := syncFDB(table, ports, want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.after, table.ports()); diff != "" {
				t.Errorf("ports of our entries (-want +got):\n%s", diff)
			}
			if table.writes != tt.writes {
				t.Errorf("%d writes, want %d", table.writes, tt.writes)
			}
		})
	}
}
