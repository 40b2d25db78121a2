package packet

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// F-9: the clock of the entries' ages runs as the monotonic clock does (CLOCK_MONOTONIC); the time of day, which may jump, is nowhere in it.
func TestClock(t *testing.T) {
	d := load(t, options{programs: []string{"clock"}})
	// It was that many ticks at some moment between the two: on a busy machine they may be far apart.
	read := func() (ticks uint32, after, before time.Time) {
		t.Helper()
		after = time.Now()
		ticks, err := d.coll.Programs["clock"].Run(&ebpf.RunOptions{Data: make([]byte, 64)})
		if err != nil {
			t.Fatal(err)
		}
		return ticks, after, time.Now()
	}
	first, firstAfter, firstBefore := read()
	last, lastAfter, lastBefore := read()
	for lastAfter.Sub(firstBefore) < 500*time.Millisecond {
		last, lastAfter, lastBefore = read()
		if last-first > 1<<31 {
			t.Fatalf("the clock went back, from %d to %d", first, last)
		}
	}
	// Whatever the kernel's CONFIG_HZ is.
	least, most := float64(last-first)/lastBefore.Sub(firstAfter).Seconds(), float64(last-first)/lastAfter.Sub(firstBefore).Seconds()
	for _, hz := range []float64{100, 250, 300, 1000} {
		if most > 0.9*hz && least < 1.1*hz {
			return
		}
	}
	t.Errorf("%.0f to %.0f ticks in a second of the monotonic clock", least, most)
}
