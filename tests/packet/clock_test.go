package packet

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// F-9: the clock of the entries' ages runs as the monotonic clock does (CLOCK_MONOTONIC); the time of day, which may jump, is nowhere in it.
func TestClock(t *testing.T) {
	d := load(t, options{programs: []string{"clock"}})
	read := func() (uint32, time.Time) {
		t.Helper()
		ticks, err := d.coll.Programs["clock"].Run(&ebpf.RunOptions{Data: make([]byte, 64)})
		if err != nil {
			t.Fatal(err)
		}
		return ticks, time.Now()
	}
	first, began := read()
	var last uint32
	var now time.Time
	for last, now = read(); now.Sub(began) < 500*time.Millisecond; last, now = read() {
		if last-first > 1<<31 {
			t.Fatalf("the clock went back, from %d to %d", first, last)
		}
	}
	// Whatever the kernel's CONFIG_HZ is.
	rate := float64(last-first) / now.Sub(began).Seconds()
	for _, hz := range []float64{100, 250, 300, 1000} {
		if rate > 0.9*hz && rate < 1.1*hz {
			return
		}
	}
	t.Errorf("%.0f ticks in a second of the monotonic clock", rate)
}
