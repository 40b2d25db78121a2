package packet

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testNoWay: I-4, I-7: while there is no route for a flow, as when its device flaps, its packets are the stack's to answer, and the flow waits:
// afterwards it goes on as it was, translated as it was.
func testNoWay(t *testing.T, d *datapath) {
	client := tcp("192.0.2.10:5000", "198.51.100.1:8080", "A")
	answer := tcp("172.17.0.2:80", "192.0.2.10:5000", "A")
	question := tcp("172.17.0.2:40000", "192.0.2.10:443", "A")
	away := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 10), Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_UNREACHABLE}
	for _, c := range []struct {
		name   string
		begin  func(t *testing.T)
		key    bpf.FlowKey
		packet frame
		want   outcome
	}{
		{
			name: "an answer to who dialled a published port",
			begin: func(t *testing.T) {
				d.change(t, func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80") })
				d.send(t, fromUplink("up0"), tcp("192.0.2.10:5000", "198.51.100.1:8080", "S"))
				d.send(t, fromContainer("c1"), tcp("172.17.0.2:80", "192.0.2.10:5000", "SA"))
				d.send(t, fromUplink("up0"), client)
			},
			key: local("tcp", "172.17.0.2:80", "192.0.2.10:5000"), packet: answer,
			want: redirected("br0 in", answer.from("198.51.100.1:8080").withTTL(63)),
		},
		{
			name: "what a container has begun",
			begin: func(t *testing.T) {
				d.send(t, fromContainer("c1"), tcp("172.17.0.2:40000", "192.0.2.10:443", "S"))
				d.send(t, fromUplink("up0"), tcp("192.0.2.10:443", "198.51.100.1:40000", "SA"))
				d.send(t, fromContainer("c1"), question)
			},
			key: local("tcp", "172.17.0.2:40000", "192.0.2.10:443"), packet: question,
			want: redirected("br0 out", question.from("198.51.100.1:40000").withTTL(63)),
		},
	} {
		t.Run("I-7 "+c.name, func(t *testing.T) {
			d.reset(t)
			c.begin(t)
			d.expect(t, fromContainer("c1"), c.packet, c.want)
			before := d.flows(t)
			if err := netlink.RouteAdd(away); err != nil {
				t.Fatal(err)
			}
			there := true
			back := func() {
				if there {
					if err := netlink.RouteDel(away); err != nil {
						t.Fatal(err)
					}
				}
				there = false
			}
			defer back()
			d.nextTick(t)
			var f bpf.Flow
			if err := d.coll.Maps["flows4"].Lookup(c.key, &f); err != nil {
				t.Fatal(err)
			}
			f.Routed -= 60_000 // more than any clock's ticks in a second
			if err := d.coll.Maps["flows4"].Put(c.key, f); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				d.expect(t, fromContainer("c1"), c.packet, passed("route"))
				d.nextTick(t)
			}
			d.expectFlows(t, before...)
			back()
			d.expect(t, fromContainer("c1"), c.packet, c.want)
			d.expectFlows(t, before...)
		})
	}
}
