package packet

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	state "github.com/ebpfnet/ebpfnet/maps"
)

// together runs f on threads at once, and waits for all.
func together(threads int, f func(thread int)) {
	var wg sync.WaitGroup
	for i := range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f(i)
		}()
	}
	wg.Wait()
}

// testParallelLife: E-9, E-10, F-8, both directions of a few flows on many threads at once, while entries are pushed out at random. Flows are
// answered, move from one table to the other, are made again; each keeps its port, and at the end each has just its two entries.
func testParallelLife(t *testing.T, d *datapath) {
	const threads, packets, flows = 6, 300, 3
	for _, evicting := range []bool{false, true} {
		t.Run(fmt.Sprintf("E-9 E-10 evicting %v", evicting), func(t *testing.T) {
			d.reset(t)
			d.change(t, publishWeb)
			there := func(i int) frame { return udp(fmt.Sprintf("172.17.0.2:%d", 5000+i), "192.0.2.10:53") }
			back := func(i int) frame { return udp("192.0.2.10:53", fmt.Sprintf("198.51.100.1:%d", 5000+i)) }
			out, in := fromContainer("c1"), fromUplink("up0")
			var wants, frames [flows][2][]byte
			for i := range flows {
				frames[i] = [2][]byte{d.w.addressed(out, there(i)).bytes(), d.w.addressed(in, back(i)).bytes()}
				wants[i][0] = d.w.addressed(out, there(i)).from(fmt.Sprintf("198.51.100.1:%d", 5000+i)).withTTL(63).bytes()
				wants[i][1] = back(i).to(fmt.Sprintf("172.17.0.2:%d", 5000+i)).withTTL(63).macs(d.w.gateway("c1")).bytes()
				d.send(t, out, there(i))
			}
			together(threads, func(thread int) {
				random := rand.New(rand.NewPCG(uint64(thread), 1))
				for range packets {
					i, way := random.IntN(flows), random.IntN(2)
					if evicting && thread == 0 {
						// Only half a pair at a time, or there is nothing to make it from; and only the half that an answer needs the other for.
						_ = d.coll.Maps["flows4"].Delete(wire("udp", "192.0.2.10:53", fmt.Sprintf("198.51.100.1:%d", 5000+i)))
						way = 0
					}
					r, err := d.try([2]hook{out, in}[way], frames[i][way], skb{})
					if err != nil {
						t.Error(err)
						return
					}
					if way == 1 && evicting && r.verdict == verdictNext {
						continue // it came before the container's next packet has made its entry again
					}
					if r.verdict != verdictRedirect || string(r.data) != string(wants[i][way]) {
						t.Errorf("verdict %d\n%s\nwant\n%s", r.verdict, describe(r.data), describe(wants[i][way]))
						return
					}
				}
			})
			d.nextTick(t)
			for i := range flows {
				d.send(t, out, there(i))
				d.send(t, in, back(i))
			}
			d.expectPairs(t)
			if lines := d.flows(t); len(lines) != 2*flows {
				t.Errorf("%d entries for %d flows:\n%s", len(lines), flows, strings.Join(lines, "\n"))
			}
		})
	}
}

// testParallelPorts: E-9, twenty containers open the same port to the same machine at once: each gets a port of its own, and answers to each
// port reach just the one that has it.
func testParallelPorts(t *testing.T, d *datapath) {
	const containers = 20
	for range 20 {
		d.reset(t)
		d.change(t, func(s *state.State) {
			for i := range containers {
				d.w.addEndpoint(s, "c1", fmt.Sprintf("172.17.0.%d", 20+i))
			}
		})
		ports := make([]string, containers)
		together(containers, func(i int) {
			f := d.w.addressed(fromContainer("c1"), tcp(fmt.Sprintf("172.17.0.%d:5000", 20+i), "192.0.2.10:80", "S")).bytes()
			r, err := d.try(fromContainer("c1"), f, skb{})
			if err != nil || r.verdict != verdictRedirect {
				t.Errorf("verdict %d, %v", r.verdict, err)
				return
			}
			ports[i], _ = r.addresses()
		})
		seen := map[string]int{}
		for i, at := range ports {
			if other, ok := seen[at]; ok {
				t.Fatalf("containers %d and %d both leave as %s", other, i, at)
			}
			seen[at] = i
			r := d.send(t, fromUplink("up0"), tcp("192.0.2.10:80", at, "SA"))
			if _, dst := r.addresses(); dst != fmt.Sprintf("172.17.0.%d:5000", 20+i) {
				t.Errorf("an answer to %s goes to %s", at, dst)
			}
		}
		d.expectPairs(t)
		if n := len(d.flowRows(t)); n != 2*containers {
			t.Errorf("%d entries for %d flows", n, containers)
		}
	}
}
