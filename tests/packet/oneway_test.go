package packet

import (
	"testing"
)

// testOneWay: F-4, a flow that is never answered keeps its port for as long as it has packets: each keeps both of its entries, and the
// reservation of its port with them, as young as itself.
func testOneWay(t *testing.T, d *datapath) {
	d.reset(t)
	log := udp("172.17.0.2:5140", "192.0.2.10:514")
	taken := udp("172.17.0.3:5140", "192.0.2.10:514")
	d.send(t, fromContainer("c2"), taken) // so that the port is not kept by chance
	r := d.send(t, fromContainer("c1"), log)
	port, _ := r.addresses()
	for range 5 {
		d.nextTick(t)
		now := d.ticks(t)
		r := d.send(t, fromContainer("c1"), log)
		if got, _ := r.addresses(); got != port {
			t.Fatalf("F-4 leaves as %s, and left as %s before", got, port)
		}
		for _, row := range d.flowRows(t) {
			f := row.flow
			if f.SrcId != 0 && f.Iif == d.w.devices["c1"].index || f.DstId != 0 && f.Oif == d.w.devices["c1"].index {
				if int32(f.Seen-now) < 0 {
					t.Errorf("F-4 %d ticks old after its flow's packet: %s", now-f.Seen, d.describeFlow(row))
				}
			}
		}
	}
	d.expectPairs(t)
}

// testOneSocket: E-19, a UDP socket of a container that talks to several peers has one port to all of them, and each peer reaches it once it
// has been sent to; nobody else does. So two such containers that send to each other meet.
func testOneSocket(t *testing.T, d *datapath) {
	d.reset(t)
	peers := []string{"192.0.2.10:3478", "192.0.2.10:3479", "192.0.2.11:3478"}
	for i, peer := range peers {
		back := udp(peer, "198.51.100.1:6000")
		d.expect(t, fromUplink("up0"), back, passed("not_ours"))
		d.expect(t, fromContainer("c1"), udp("172.17.0.2:6000", peer), redirected("br0 out", udp("198.51.100.1:6000", peer).withTTL(63)))
		for _, peer := range peers[:i+1] {
			back := udp(peer, "198.51.100.1:6000")
			d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to("172.17.0.2:6000").withTTL(63).macs(d.w.gateway("c1"))))
		}
	}
	d.expectPairs(t)
}
