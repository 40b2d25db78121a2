package packet

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// endpointCounters reads what is counted for the endpoint in a slot.
func (d *datapath) endpointCounters(tb testing.TB, slot uint32) bpf.EndpointCounters {
	tb.Helper()
	var perCPU []bpf.EndpointCounters
	if err := d.coll.Maps["endpoint_stats"].Lookup(slot, &perCPU); err != nil {
		tb.Fatal(err)
	}
	var sum bpf.EndpointCounters
	for _, c := range perCPU {
		sum.Rx.Packets += c.Rx.Packets
		sum.Rx.Bytes += c.Rx.Bytes
		sum.Tx.Packets += c.Tx.Packets
		sum.Tx.Bytes += c.Tx.Bytes
		sum.TxDropped += c.TxDropped
		sum.RxDropped += c.RxDropped
	}
	return sum
}

// testEndpointCounters: each packet is counted once at each end that is a container, on whichever of its hooks that is.
func testEndpointCounters(t *testing.T, d *datapath) {
	const one, two = 172, 173                                // slots of c1 and c2
	type ends struct{ Sent, Dropped, Received, Kept uint64 } // Kept: dropped on its way to it
	syn := tcp("172.17.0.2:40000", "192.0.2.10:80", "S")
	answered := []sent{{fromContainer("c1"), syn}}
	for _, c := range []struct {
		name   string
		before []sent
		packet sent
		mark   uint32
		c1, c2 ends
	}{
		{"out", nil, sent{fromContainer("c1"), syn}, 0, ends{Sent: 1}, ends{}},
		{"out, three segments", nil, sent{fromContainer("c1"), syn.data(make([]byte, 300)).gso(100, 3)}, 0, ends{Sent: 3}, ends{}},
		{"an answer", answered, sent{fromUplink("up0"), tcp("192.0.2.10:80", "198.51.100.1:40000", "SA")}, 0, ends{Received: 1}, ends{}},
		{"between containers", nil, sent{fromContainer("c1"), syn.to("172.17.0.3:80")}, 0, ends{Sent: 1}, ends{Received: 1}},
		{"from the host", nil, sent{toBridge("br0"), tcp("172.17.0.1:40000", "172.17.0.2:80", "S")}, 0, ends{Received: 1}, ends{}},
		{"from the host, at the veth", nil, sent{toContainer("c1"), tcp("172.17.0.1:40000", "172.17.0.2:80", "S")}, 0xeb02, ends{}, ends{}},
		{"by the bridge, at the veth", nil, sent{toContainer("c1"), tcp("172.17.0.9:40000", "172.17.0.2:80", "S")}, 0, ends{Received: 1}, ends{}},
		{"left to the stack", nil, sent{fromContainer("c1"), syn.to("172.17.0.99:80")}, 0, ends{Sent: 1}, ends{}},
		{"dropped", nil, sent{fromContainer("c1"), syn.to("172.18.0.2:80")}, 0, ends{Dropped: 1}, ends{}},
		{"spoofed: at the device that sent it", nil, sent{fromContainer("c1"), syn.from("172.17.0.3:40000")}, 0, ends{Dropped: 1}, ends{}},
		{"dropped on its way in", nil, sent{fromUplink("up0"), tcp("192.0.2.10:40000", "172.17.0.2:80", "S")}, 0, ends{Kept: 1}, ends{}},
		{"arp is no ipv4", nil, sent{fromContainer("c1"), arp("0a:00:00:00:17:02", "172.17.0.2")}, 0, ends{}, ends{}},
		{"arp for another's address", nil, sent{fromContainer("c1"), arp("0a:00:00:00:17:02", "172.17.0.3")}, 0, ends{Dropped: 1}, ends{}},
		{"after its veth's program, out of the uplink", answered, sent{toUplink("up0"), syn}, 0xeb02, ends{}, ends{}},
	} {
		t.Run("L-1 "+c.name, func(t *testing.T) {
			d.reset(t)
			for _, p := range c.before {
				d.send(t, p.hook, p.frame)
			}
			before := [2]bpf.EndpointCounters{d.endpointCounters(t, one), d.endpointCounters(t, two)}
			in := skb{GsoSize: c.packet.frame.gsoSize, GsoSegs: c.packet.frame.gsoSegs}
			in.CB[cbMarkIn] = c.mark
			b := d.w.addressed(c.packet.hook, c.packet.frame).bytes()
			d.run(t, c.packet.hook, b, in)
			var got [2]ends
			for i, slot := range []uint32{one, two} {
				after := d.endpointCounters(t, slot)
				got[i] = ends{
					Sent: after.Tx.Packets - before[i].Tx.Packets, Dropped: after.TxDropped - before[i].TxDropped, Kept: after.RxDropped - before[i].RxDropped,
					Received: after.Rx.Packets - before[i].Rx.Packets,
				}
				if got[i].Sent > 0 && after.Tx.Bytes-before[i].Tx.Bytes != uint64(len(b)) {
					t.Errorf("%d bytes are counted as sent, want %d", after.Tx.Bytes-before[i].Tx.Bytes, len(b))
				}
			}
			if diff := cmp.Diff([2]ends{c.c1, c.c2}, got); diff != "" {
				t.Errorf("packets of c1 and c2 (-want +got):\n%s", diff)
			}
		})
	}
}

// peerPackets reads how many packets are counted from another host and to it.
func (d *datapath) peerPackets(tb testing.TB, host string) (from, to uint64) {
	tb.Helper()
	var perCPU []bpf.PeerCounters
	if err := d.coll.Maps["peer_stats"].Lookup(addrKey(host), &perCPU); err != nil {
		tb.Fatal(err)
	}
	for _, c := range perCPU {
		from += c.Rx.Packets
		to += c.Tx.Packets
	}
	return from, to
}

// testPeerCounters: each packet between hosts is counted once under the other one, whichever way it takes.
func testPeerCounters(t *testing.T, d *datapath) {
	const own, tunnelled, direct = "198.51.100.1", "198.51.100.7", "198.51.100.8"
	out := tcp("172.17.0.2:40000", "10.200.2.5:80", "S")
	in := tcp("10.200.2.5:50000", "172.17.0.2:80", "S")
	wrapped := vxlan(in.macs(mac("0e:eb:c6:33:64:07"), mac("0e:eb:c6:33:64:01")), tunnelled, own, 1)
	for _, c := range []struct {
		name     string
		change   func(*state.State)
		packet   sent
		host     string
		from, to uint64
	}{
		{"VXLAN, out", d.w.network, sent{fromContainer("c1"), out}, tunnelled, 0, 1},
		{"VXLAN, in", d.w.network, sent{fromUplink("up0"), wrapped}, tunnelled, 1, 0},
		{"VXLAN, the host's own", d.w.network, sent{toOverlay("lan0"), out.from("10.200.1.0:40000")}, tunnelled, 0, 1},
		{"as it is, out", d.w.network, sent{fromContainer("c1"), out.to("10.200.3.5:80")}, direct, 0, 1},
		{"as it is, in", d.w.network, sent{fromUplink("up0"), in.from("10.200.3.5:50000")}, direct, 1, 0},
		{"in datagrams, out to flannel's", d.w.datagrams, sent{toPeer("lan0"), out}, tunnelled, 0, 1},
		{"in datagrams, on its way there", d.w.datagrams, sent{fromContainer("c1"), out}, tunnelled, 0, 0},
		{"in datagrams, out", d.w.ours, sent{fromContainer("c1"), out}, tunnelled, 0, 1},
		{"in datagrams, in", d.w.ours, sent{fromUplink("up0"), datagram(in, tunnelled, own, 0)}, tunnelled, 1, 0},
		{"in datagrams, for the host", d.w.ours, sent{fromUplink("up0"), datagram(in.to("10.8.0.1:80"), tunnelled, own, 0)}, tunnelled, 1, 0},
	} {
		t.Run("L-1 between hosts, "+c.name, func(t *testing.T) {
			d.reset(t)
			d.change(t, c.change)
			if err := d.coll.Maps["peer_stats"].Put(addrKey(c.host), make([]bpf.PeerCounters, ebpf.MustPossibleCPU())); err != nil {
				t.Fatal(err)
			}
			d.send(t, c.packet.hook, c.packet.frame)
			if from, to := d.peerPackets(t, c.host); from != c.from || to != c.to {
				t.Errorf("counted from %s and to it: %d, %d; want %d, %d", c.host, from, to, c.from, c.to)
			}
		})
	}
}
