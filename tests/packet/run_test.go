package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Verdicts of the TC programs (include/uapi/linux/pkt_cls.h).
const (
	verdictNext     = -1
	verdictDrop     = 2
	verdictRedirect = 7
)

// skb mirrors struct __sk_buff (include/uapi/linux/bpf.h). Of what goes in, the kernel takes the fields that run fills, and the rest must be 0.
type skb struct {
	Len, PktType, Mark, QueueMapping, Protocol, VlanPresent, VlanTci, VlanProto, Priority, IngressIfindex, Ifindex, TcIndex uint32

	CB [5]uint32

	Hash, TcClassid, Data, DataEnd, NapiID, Family, RemoteIP4, LocalIP4 uint32

	RemoteIP6, LocalIP6 [4]uint32

	RemotePort, LocalPort, DataMeta uint32
	FlowKeys, Tstamp                uint64
	WireLen, GsoSegs                uint32
	Sk                              uint64
	GsoSize, TstampType             uint32
	Hwtstamp                        uint64
}

// hook is a program on a device.
type hook struct{ prog, dev string }

func fromContainer(dev string) hook { return hook{"from_container", dev} }
func toContainer(dev string) hook   { return hook{"to_container", dev} }
func fromUplink(dev string) hook    { return hook{"from_uplink", dev} }
func toUplink(dev string) hook      { return hook{"to_uplink", dev} }
func fromBridge(dev string) hook    { return hook{"from_bridge", dev} }
func toBridge(dev string) hook      { return hook{"to_bridge", dev} }

func (h hook) String() string { return h.prog + " on " + h.dev }

// addressed fills the link-layer addresses that an honest packet has on a hook, where the test names none.
func (w *world) addressed(h hook, f frame) frame {
	if f.srcMAC != nil {
		return f
	}
	dev, far := w.devices[h.dev], mac("02:00:00:00:00:fe")
	switch h.prog {
	case "from_container":
		dst, _ := split(f.dst)
		for _, d := range w.devices {
			if d.bridge == dev.bridge && d.addr == dst.String() {
				return f.macs(dev.containerMAC(), d.containerMAC())
			}
		}
		return f.macs(dev.containerMAC(), w.devices[dev.bridge].mac)
	case "to_container":
		return f.macs(w.devices[dev.bridge].mac, dev.containerMAC())
	case "from_uplink", "from_bridge", "from_overlay", "from_peer":
		return f.macs(far, dev.mac)
	default:
		return f.macs(dev.mac, far)
	}
}

// gateway gives the addresses of a routed frame on its way into a container: from its bridge to it.
func (w *world) gateway(veth string) (src, dst net.HardwareAddr) {
	d := w.devices[veth]
	return w.devices[d.bridge].mac, d.containerMAC()
}

// result is what a run gave.
type result struct {
	verdict int32
	data    []byte
	skb     skb
}

// run puts bytes through a program.
func (d *datapath) run(tb testing.TB, h hook, data []byte, in skb) result {
	tb.Helper()
	r, err := d.try(h, data, in)
	if err != nil {
		tb.Fatalf("run %s: %v", h, err)
	}
	return r
}

// try is run where the kernel may refuse the packet. It takes no IP frame without a whole IP header: such a frame is cut by what wrap adds.
func (d *datapath) try(h hook, data []byte, in skb) (result, error) {
	size := len(data)
	if size < atL4 && data[atEtherType] == 8 && data[atEtherType+1] == 0 {
		data = append(append([]byte(nil), data...), make([]byte, atL4-size)...)
		in.CB[cbLength] = uint32(size)
	}
	in.Ifindex = d.w.devices[h.dev].index
	if d.ingressFromCB {
		in.CB[cbIngress], in.IngressIfindex = in.IngressIfindex, 0
	}
	var r result
	opts := ebpf.RunOptions{Data: data, DataOut: make([]byte, len(data)+256), Context: &in, ContextOut: &r.skb}
	ret, err := d.coll.Programs[h.prog].Run(&opts)
	r.verdict, r.data = int32(ret), opts.DataOut
	return r, err
}

// send puts a frame through a program.
func (d *datapath) send(tb testing.TB, h hook, f frame) result {
	tb.Helper()
	return d.run(tb, h, d.w.addressed(h, f).bytes(), skb{GsoSize: f.gsoSize, GsoSegs: f.gsoSegs})
}

// outcome is all that a packet may bring about, but for the flow table.
type outcome struct {
	verdict int32
	out     *frame // nil: as it came
	counter string // the one counter that moves, as counters names it; "": none
}

// hold is what becomes of a piece that waits for the first of its datagram, or that is let in again.
const hold = "hold"

// dropped, passed: under a reason. kept: until the first piece comes.
func dropped(reason string) outcome { return outcome{verdictDrop, nil, "drop " + reason} }
func kept() outcome                 { return outcome{verdictDrop, nil, hold} }
func passed(reason string) outcome  { return outcome{verdictNext, nil, "pass " + reason} }

// redirected, stacked: delivered as f, counted under a bridge and a path ("br0 out").
func redirected(counter string, f frame) outcome { return outcome{verdictRedirect, &f, counter} }
func stacked(counter string, f frame) outcome    { return outcome{verdictNext, &f, counter} }

// unseen: the program has nothing to do with it.
func unseen() outcome { return outcome{verdict: verdictNext} }

// expect sends a frame and compares all that comes of it. What comes out has to have right checksums if what went in had.
func (d *datapath) expect(tb testing.TB, h hook, f frame, want outcome) {
	tb.Helper()
	f = d.w.addressed(h, f)
	before := d.counters(tb)
	events, stop := d.watching(tb, bpf.DatapathMonitorBitMONITOR_DROPS|bpf.DatapathMonitorBitMONITOR_TRACE)
	defer stop()
	got := d.send(tb, h, f)
	what := fmt.Sprintf("%s, %s %s > %s", h, f.proto, f.src, f.dst)
	d.expectTold(tb, h, what, want.counter, events())

	if got.verdict != want.verdict {
		tb.Errorf("%s: verdict is %d, want %d", what, got.verdict, want.verdict)
	}
	counted := map[string]uint64{}
	if want.counter != "" {
		counted[want.counter] = uint64(max(f.gsoSegs, 1))
	}
	if diff := cmp.Diff(counted, moved(before, d.counters(tb))); diff != "" {
		tb.Errorf("%s: counters (-want +got):\n%s", what, diff)
	}
	if want.verdict == verdictDrop {
		return
	}
	out := f
	if want.out != nil {
		out = *want.out
		if out.srcMAC == nil {
			out = out.macs(f.srcMAC, f.dstMAC)
		}
	}
	b := out.bytes()
	if out.outer && len(b) == len(got.data) {
		b = chosen(b, got.data)
	}
	if !bytes.Equal(b, got.data) {
		tb.Errorf("%s: packet is\n%s\nwant\n%s", what, describe(got.data), describe(b))
	}
	if checksums(f.bytes()) == nil {
		if err := checksums(got.data); err != nil {
			tb.Errorf("%s: %v", what, err)
		}
	}
}

// chosen writes what the sender of a tunnel's packet chose itself into the one that is expected: its IP id, and a source port of those for that.
func chosen(want, got []byte) []byte {
	copy(want[18:20], got[18:20])
	if port := got[34:36]; binary.BigEndian.Uint16(port) >= 49152 {
		copy(want[34:36], port)
	}
	binary.BigEndian.PutUint16(want[24:], 0)
	binary.BigEndian.PutUint16(want[24:], ^sum16(want[14:34], 0))
	return want
}

// expectFlows compares the whole flow table, in any order of lines.
func (d *datapath) expectFlows(tb testing.TB, want ...string) {
	tb.Helper()
	if diff := cmp.Diff(sorted(want), d.flows(tb)); diff != "" {
		tb.Errorf("flows (-want +got):\n%s", diff)
	}
}

// addresses gives source and destination of what came out, with the ports of TCP and UDP.
func (r result) addresses() (src, dst string) {
	b := r.data
	l4 := atIP + int(b[atIP]&0xf)*4
	at := func(ip, port int) string {
		a := netip.AddrFrom4([4]byte(b[ip : ip+4]))
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[port:])).String()
	}
	return at(atSource, l4), at(atSource+4, l4+2)
}
