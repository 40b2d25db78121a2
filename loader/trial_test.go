package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/bpf"
	datamaps "github.com/ebpfnet/ebpfnet/maps"
)

// content reads every entry of every pinned map, in hexadecimal.
func content(t *testing.T, p Paths) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(p.Maps, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			return err
		}
		defer m.Close()
		perCPU := m.Type() == ebpf.PerCPUArray
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		var values [][]byte
		it := m.Iterate()
		for {
			var more bool
			if perCPU {
				more = it.Next(&key, &values)
				value = bytes.Join(values, nil)
			} else {
				more = it.Next(&key, &value)
			}
			if !more {
				break
			}
			if len(bytes.Trim(value, "\x00")) > 0 {
				all[fmt.Sprintf("%s %x", e.Name(), key)] = fmt.Sprintf("%x", value)
			}
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// L-2: what is tried on a trial is decided by the datapath's own configuration, and leaves every map of the datapath as it was.
func TestTrialChangesNothing(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	features, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Load(p, features, smallSettings())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)

	// A container 10.1.0.2 on a bridge 10.1.0.1/16 whose host end is the device, and another one on a bridge that forbids talk.
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0"}, PeerName: "v1"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("v0")
	if err != nil {
		t.Fatal(err)
	}
	index := uint32(link.Attrs().Index)
	addr := func(last byte) uint32 { return binary.NativeEndian.Uint32([]byte{10, 1, 0, last}) }
	mac := func(last byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, last} }
	state := datamaps.State{
		Bridges: map[uint32]bpf.Bridge{1: {Addr: addr(1), Mac: mac(1), Mtu: 1500, Flags: bpf.DatapathBridgeFlagBRIDGE_ICC}},
		Veths:   map[uint32]bpf.Veth{index: {Bridge: 1, Id: 7, Slot: 1}},
		Endpoints: map[bpf.AddrKey]bpf.Endpoint{
			{Addr: addr(2)}: {Id: 7, Ifindex: index, Bridge: 1, Slot: 1, Mac: mac(2)},
			{Addr: addr(3)}: {Id: 8, Ifindex: 99, Bridge: 1, Slot: 2, Mac: mac(3)},
		},
	}
	if _, err := d.Maps().Sync(state); err != nil {
		t.Fatal(err)
	}
	frame := func(src, dst byte) []byte {
		f := make([]byte, 42)
		m, s := mac(dst), mac(src)
		copy(f, m[:])
		copy(f[6:], s[:])
		copy(f[12:], []byte{8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, src, 10, 1, 0, dst, 0x10, 0, 0, 80, 0, 8})
		return f
	}
	before := content(t, p)
	if len(before) < 5 {
		t.Fatalf("only %d entries are there to be changed", len(before))
	}
	try, err := d.NewTrial([]string{"from_container"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(try.Close)
	o, err := try.Run("from_container", index, frame(2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if o.Event == nil || o.Event.Drop != 0 || o.Event.Pass != 0 || o.Event.Oif != 99 || o.Event.DstId != 8 {
		t.Fatalf("between containers: %+v", o.Event)
	}
	if e, ok, err := try.Flow(o.Event.Before); err != nil || !ok || !e.New {
		t.Errorf("its flow: %+v, %v, %v", e, ok, err)
	}
	flows, err := try.Flows()
	if err != nil || len(flows) != 2 {
		t.Errorf("%d entries in the trial's own table, %v; want 2", len(flows), err)
	}
	if o, err = try.Run("from_container", index, frame(3, 2)); err != nil || o.Event == nil || o.Event.Drop != bpf.DatapathDropReasonDROP_SPOOFED {
		t.Errorf("with another's address: %+v, %v", o.Event, err)
	}
	after := content(t, p)
	if !maps.Equal(before, after) {
		t.Errorf("the datapath's maps have changed (-before +after):\n%s", cmp.Diff(before, after))
	}
	var bits bpf.MonitorBit
	if err := d.TC.Monitor.Get(&bits); err != nil || bits != 0 {
		t.Errorf("the datapath's own programs tell %d, %v", bits, err)
	}
	if _, err := try.Run("to_bridge", index, frame(2, 3)); err == nil {
		t.Error("a program that was not loaded runs")
	}
}
