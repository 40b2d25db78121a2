package packet

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkCounting compares the programs as they are with the same programs that count nothing, turn by turn: what counting costs a packet
// of a known flow, in the program alone.
func BenchmarkCounting(b *testing.B) {
	const repeat, rounds = 20_000, 101
	both := [2]*datapath{
		load(b, options{wrap: wrapRestore}),
		load(b, options{wrap: wrapRestore, vars: map[string]any{"count_packets": uint8(0)}}),
	}
	for _, d := range both {
		d.change(b, publishWeb)
	}
	for i, c := range evictCases(both[0])[:3] {
		b.Run(c.name, func(b *testing.B) {
			for _, d := range both {
				c := evictCases(d)[i]
				for _, s := range []sent{c.forward, c.reply, c.forward} {
					d.restore(b, s)
					if r := d.send(b, s.hook, s.frame); r.verdict != verdictRedirect {
						b.Fatalf("%s: verdict is %d", s.hook, r.verdict)
					}
				}
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var cost costs
			for b.Loop() {
				for range rounds {
					cost.turn(func(i int) time.Duration {
						d := both[i]
						return d.timed(b, c.forward.hook, c.forward, repeat) - d.timed(b, hook{"nothing", c.forward.hook.dev}, c.forward, repeat)
					})
				}
			}
			cost.report(b, repeat)
		})
	}
}

// costs are times with counting (0) and without (1), taken by turns.
type costs [2][]time.Duration

// turn takes both times, one after the other; which is first changes from turn to turn.
func (c *costs) turn(take func(i int) time.Duration) {
	first := len(c[0]) % 2
	for _, i := range []int{first, 1 - first} {
		c[i] = append(c[i], take(i))
	}
}

// report shows the median time of a packet, and the median of what counting adds, turn by turn: what makes a machine slower for a while
// makes both slower.
func (c *costs) report(b *testing.B, packets int) {
	added, share := make([]float64, len(c[0])), make([]float64, len(c[0]))
	for i := range added {
		added[i] = float64(c[0][i]-c[1][i]) / float64(packets)
		share[i] = 100 * float64(c[0][i]-c[1][i]) / float64(c[1][i])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(c[0]))/float64(packets), "ns/packet")
	b.ReportMetric(median(added), "ns/counting")
	b.ReportMetric(median(share), "percent")
}

func median[T time.Duration | float64](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// restore leaves a packet's headers for wrapRestore.
func (d *datapath) restore(tb testing.TB, s sent) []byte {
	tb.Helper()
	data := d.w.addressed(s.hook, s.frame).bytes()
	if err := d.coll.Maps["frame"].Put(uint32(0), append(append([]byte(nil), data[:restored]...), make([]byte, 64-restored)...)); err != nil {
		tb.Fatal(err)
	}
	return data
}

// timed runs a program on a packet so many times.
func (d *datapath) timed(tb testing.TB, h hook, s sent, repeat uint32) time.Duration {
	tb.Helper()
	data := d.restore(tb, s)
	in := skb{Ifindex: d.w.devices[h.dev].index}
	start := threadTime(tb)
	if _, err := d.coll.Programs[h.prog].Run(&ebpf.RunOptions{Data: data, Context: &in, Repeat: repeat}); err != nil {
		tb.Fatal(err)
	}
	return threadTime(tb) - start
}

// threadTime is the processor's time that this thread has taken: what others take of a busy machine is not in it.
func threadTime(tb testing.TB) time.Duration {
	tb.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(t.Nano())
}
