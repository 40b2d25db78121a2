package packet

import (
	"fmt"
	"testing"
)

// testErrorsWhole: A-4, an error that quotes the whole packet: the quoted layer 4 checksum, which covers what is translated, is right for the
// container, whether the flow has kept its port or not; and so are the error's own and the quoted header's.
func testErrorsWhole(t *testing.T, d *datapath) {
	for _, proto := range []string{"udp", "tcp"} {
		for _, size := range []int{0, 1, 100, 513} {
			for _, sum := range []bool{true, false} {
				if proto == "tcp" && !sum {
					continue
				}
				t.Run(fmt.Sprintf("A-4 %s, %d bytes of payload, checksum %v", proto, size, sum), func(t *testing.T) {
					d.reset(t)
					packet := func(src string) frame {
						f := udp(src, "192.0.2.10:80").data(make([]byte, size)).withTTL(64)
						if proto == "tcp" {
							f = tcp(src, "192.0.2.10:80", "S").data(make([]byte, size)).withTTL(64)
						}
						f.noSum = !sum
						return f
					}
					whole := len(packet("172.17.0.2:40000").bytes()) - 14
					d.send(t, fromContainer("c1"), packet("172.17.0.2:40000"))
					kept := icmpError(router, "198.51.100.1", unreachable, fragNeeded, 1400, packet("198.51.100.1:40000"), whole)
					want := icmpError(router, "172.17.0.2", unreachable, fragNeeded, 1400, packet("172.17.0.2:40000"), whole)
					d.expect(t, fromUplink("up0"), kept, redirected("br0 out", want.withTTL(63).macs(d.w.gateway("c1"))))

					r := d.send(t, fromContainer("c2"), packet("172.17.0.3:40000"))
					src, _ := r.addresses()
					if src == "198.51.100.1:40000" {
						t.Fatal("two flows have one port")
					}
					changed := icmpError(router, "198.51.100.1", unreachable, fragNeeded, 1400, packet(src), whole)
					want = icmpError(router, "172.17.0.3", unreachable, fragNeeded, 1400, packet("172.17.0.3:40000"), whole)
					d.expect(t, fromUplink("up0"), changed, redirected("br0 out", want.withTTL(63).macs(d.w.gateway("c2"))))
				})
			}
		}
	}
}
