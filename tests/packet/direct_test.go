package packet

import (
	"testing"

	state "github.com/ebpfnet/ebpfnet/maps"
)

// testDirect: who may speak to containers by their own address, and by a published port as well.
func testDirect(t *testing.T, d *datapath) {
	t.Run("B-5 a ping to a container's own address is answered by that address", func(t *testing.T) {
		d.reset(t)
		d.change(t, d.w.network)
		ask, answer := echo("10.200.3.5", "172.17.0.2", 7), echoReply("172.17.0.2", "10.200.3.5", 7)
		for range 3 {
			d.expect(t, fromUplink("up0"), ask, redirected("br0 overlay", ask.withTTL(63).macs(d.w.gateway("c1"))))
			d.expect(t, fromContainer("c1"), answer, redirected("br0 overlay", answer.withTTL(63)))
		}
		d.expectPairs(t)
	})
	t.Run("B-5 from where it is not allowed", func(t *testing.T) {
		d.reset(t)
		d.expect(t, fromUplink("up0"), echo("192.0.2.10", "172.17.0.2", 7), dropped("direct"))
		d.expectFlows(t)
	})

	published, direct := tcp("10.200.3.5:4321", "198.51.100.1:8080", "S"), tcp("10.200.3.5:4321", "172.17.0.2:80", "S")
	both := func(s *state.State) {
		d.w.network(s)
		publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80")
	}
	// answered lets the container answer what it was sent, and tells whom the answer reaches.
	answered := func(t *testing.T, r result, flags string) (from, to string) {
		t.Helper()
		if r.verdict != verdictRedirect {
			t.Fatalf("verdict is %d", r.verdict)
		}
		src, dst := r.addresses()
		r = d.send(t, fromContainer("c1"), tcp(dst, src, flags))
		if r.verdict != verdictRedirect {
			t.Fatalf("the answer's verdict is %d", r.verdict)
		}
		return r.addresses()
	}
	for name, order := range map[string][]frame{"published first": {published, direct}, "direct first": {direct, published}} {
		t.Run("H-22 the same client port to both, "+name, func(t *testing.T) {
			d.reset(t)
			d.change(t, both)
			for round, flags := range []string{"SA", "A", "A"} {
				for _, f := range order {
					if round > 0 {
						f.flags = "A"
					}
					from, to := answered(t, d.send(t, fromUplink("up0"), f), flags)
					if from != f.dst || to != f.src {
						t.Errorf("round %d: %s > %s is answered by %s > %s", round, f.src, f.dst, from, to)
					}
				}
			}
			d.expectPairs(t)
		})
	}
	t.Run("H-22 to both, where one's own address is not dialled from outside", func(t *testing.T) {
		d.reset(t)
		d.change(t, func(s *state.State) { publish(s, "tcp", "0.0.0.0:8080", "172.17.0.2:80") })
		in := tcp("192.0.2.10:4321", "198.51.100.1:8080", "S")
		for range 2 {
			from, to := answered(t, d.send(t, fromUplink("up0"), in), "SA")
			if from != in.dst || to != in.src {
				t.Errorf("answered by %s > %s", from, to)
			}
			d.expect(t, fromUplink("up0"), in.to("172.17.0.2:80"), dropped("direct"))
		}
	})
}
