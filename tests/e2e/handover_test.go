package e2e

import (
	"fmt"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// G-12: addresses and ifindexes that change hands lead each packet to their owner of the moment, or nowhere. An address may have its new
// owner at once. The kernel gives ifindexes out in growing order, so one comes back only after its end has long been noticed.
func TestReuse(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		machines := []*lab.Netns{s.Machine(t, "m0"), s.Machine(t, "m1")}
		for i, m := range machines {
			m.Serve(t, fmt.Sprintf("m%d", i), ":80")
		}
		const cycles = 24
		for cycle := range cycles {
			var captures []*lab.Capture
			ips := []string{fmt.Sprintf("172.17.230.%d", 1+cycle%2), fmt.Sprintf("172.17.230.%d", 2-cycle%2)}
			reused := cycle%4 < 2
			for i, m := range machines {
				index := 0
				if reused { // by the other machine than the last time
					index = 7000 + (i+cycle)%2
				}
				plug(t, s, m, fmt.Sprintf("reuse%d", i), index, ips[i])
				captures = append(captures, m.Capture(t, "eth0"))
			}
			if cycle == 0 {
				s.Endpoint(t, lab.AddrPort("172.17.230.1", 0).Addr())
				s.Publish(t, "8099:80/udp", "172.17.230.1")
			}
			// Neighbour tables are their owners' affair.
			c.NS.IP(t, "neigh flush dev eth0")
			s.NS.IP(t, "neigh flush dev docker0")
			for i, ip := range ips {
				owner := fmt.Sprintf("m%d", i)
				ask := func(from *lab.Netns, to string) {
					t.Helper()
					lab.Eventually(t, lab.Patience, func() error {
						a, err := from.TryAsk("udp", to, lab.Within(lab.Doubt/4))
						if err == nil && a.Name != owner {
							t.Fatalf("cycle %d: %s was asked at %s, %s answered", cycle, owner, to, a.Name)
						}
						return err
					})
				}
				ask(c.NS, lab.At(ip, 80))
				ask(s.NS, lab.At(ip, 80))
				if ip == "172.17.230.1" {
					ask(s.Remote, lab.At(lab.HostIP, 8099))
				}
			}
			for i := range machines {
				captures[i].None(t, "a packet for the other", func(p lab.Packet) bool {
					return !p.Sent && p.UDP != nil && p.Destination().Addr().String() == ips[1-i]
				})
				s.NS.IP(t, fmt.Sprintf("link del reuse%d", i))
			}
			if reused {
				lab.Eventually(t, lab.Patience, func() error {
					if all := s.find(t, func(e api.Endpoint) bool { return e.Veth == "reuse0" || e.Veth == "reuse1" }); len(all) > 0 {
						return fmt.Errorf("still there: %+v", all)
					}
					return nil
				})
			}
		}
	})
}
