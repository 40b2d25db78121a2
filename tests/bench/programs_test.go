package bench

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Spent is the time of programs in one workload on one way.
type Spent struct {
	Workload string             `json:"workload"`
	Way      string             `json:"way"`
	Unit     string             `json:"unit"`     // what the figures are for
	Programs map[string]float64 `json:"programs"` // of each program, in microseconds for a unit; of those that run at all
	Runs     map[string]float64 `json:"runs"`     // how often each runs for a unit
	CPU      float64            `json:"cpu"`      // the whole machine's meanwhile, in microseconds for a unit
}

// total of all programs.
func (s Spent) total() (sum float64) {
	for _, us := range s.Programs {
		sum += us
	}
	return sum
}

// TestPrograms measures how much of the processors' time the programs themselves take, as the kernel counts it. To count costs some 60 ns a
// run, which are among the figures.
func TestPrograms(t *testing.T) {
	m := newMeter(t)
	h := suite.NewHost(t, lab.Native)
	a, b := h.Run(t, "a"), h.Run(t, "b", "--publish", "7000:7000", "--publish", "7000:7000/udp", "--publish", "7001:7001/udp")
	in := h.Instance(t)
	in.Attach(t, "--bridge", lab.Bridge)
	in.Await(t, a)
	in.Await(t, b)
	p := served(t, m, "ebpfnet", h, a, b)
	stats, err := ebpf.EnableStats(0) // BPF_STATS_RUN_TIME
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	var all []Spent
	for _, workload := range []string{tcpRequests, udpRequests, connections, datagrams, oneStream} {
		for _, w := range []way{local, published, masquerade, fromHost} {
			all = append(all, spend(t, m, in, p.ends[w], workload, w))
		}
	}
	table := SpentTable(all)
	fmt.Print(table)
	if *results != "" {
		keep(t, "programs.json", marshal(t, all))
		keep(t, "programs.md", []byte(table))
	}
}

// spend runs a workload, and looks at the programs before and afterwards.
func spend(t *testing.T, m meter, in *lab.Instance, e ends, workload string, w way) Spent {
	t.Helper()
	before := programTimes(t, in)
	sample, err := m.sample(e, workload, *duration)
	if err != nil {
		t.Fatalf("%s, %s: %v", w, workload, err)
	}
	after := programTimes(t, in)
	s := Spent{Workload: workload, Way: string(w), Unit: "packet", Programs: map[string]float64{}, Runs: map[string]float64{}}
	count, unit := sample.Rate*duration.Seconds(), 1.0
	switch workload {
	case tcpRequests, udpRequests:
		s.Unit = "request"
	case connections:
		s.Unit = "connection"
	case oneStream:
		s.Unit, unit = "gigabyte", 1e9
	}
	s.CPU = sample.CPU * unit / 1e3
	for name, now := range after {
		runs := float64(now.runs - before[name].runs)
		if runs*100 < count/unit { // not this workload's
			continue
		}
		s.Runs[name] = runs / count * unit
		s.Programs[name] = (now.us - before[name].us) / count * unit
	}
	return s
}

type programTime struct {
	runs uint64
	us   float64
}

// programTimes reads what the kernel has counted of an instance's programs.
func programTimes(t *testing.T, in *lab.Instance) map[string]programTime {
	t.Helper()
	pins, err := filepath.Glob(filepath.Join(loader.PathsFor(in.Name).Programs, "*", "*"))
	if err != nil || len(pins) == 0 {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	times := map[string]programTime{}
	for _, pin := range pins {
		name := filepath.Base(pin)
		if strings.HasPrefix(name, "map_") {
			continue
		}
		p, err := ebpf.LoadPinnedProgram(pin, nil)
		if err != nil {
			t.Fatal(err)
		}
		stats, err := p.Stats()
		p.Close()
		if err != nil {
			t.Fatal(err)
		}
		times[name] = programTime{stats.RunCount, float64(stats.Runtime.Nanoseconds()) / 1e3}
	}
	return times
}

// SpentTable writes times as Markdown: a line for each workload and way, and in it each program that runs: how often for a unit, and how long.
func SpentTable(all []Spent) string {
	var b strings.Builder
	b.WriteString("| workload | way | for each | programs µs | share of all | which |\n| --- | --- | --- | ---: | ---: | --- |\n")
	for _, s := range all {
		var which []string
		for _, name := range slices.Sorted(maps.Keys(s.Programs)) {
			which = append(which, fmt.Sprintf("%s %.3g × %.0f ns", name, s.Runs[name], 1e3*s.Programs[name]/s.Runs[name]))
		}
		share := "–"
		if s.CPU > 0 {
			share = fmt.Sprintf("%.1f %%", 100*s.total()/s.CPU)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.3g | %s | %s |\n", s.Workload, s.Way, s.Unit, s.total(), share, strings.Join(which, ", "))
	}
	return b.String()
}
