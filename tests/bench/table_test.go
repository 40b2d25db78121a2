package bench

import (
	"slices"
	"strings"
	"testing"
)

func rates(peer string, all ...float64) Result {
	r := Result{Workload: "tcp_rr", Way: "local", Peer: peer}
	for _, v := range all {
		r.Samples = append(r.Samples, Sample{Rate: v, P50: 10 * v, CPU: 1})
	}
	return r
}

func TestRatioIsOfRounds(t *testing.T) {
	// The machine slowed down by half between the rounds; that hits both.
	limit, r := rates("bare", 100, 50, 25), rates("x", 90, 45, 22.5)
	if got := Ratio(r, limit); got != 0.9 {
		t.Errorf("ratio is %v", got)
	}
	if got := rates("x", 4, 1, 3, 2).Rate(); got != 2.5 {
		t.Errorf("median of four is %v", got)
	}
	if got := rates("x", 9, 11, 10).spread(); got != 0.2 {
		t.Errorf("spread is %v", got)
	}
	if got := Ratio(r, rates("bare", 0, 0)); got != 0 {
		t.Errorf("ratio to nothing is %v", got)
	}
}

func TestTable(t *testing.T) {
	out := Table([]Result{rates("bare", 100), rates("x", 90)}, "bare")
	for _, want := range []string{"| tcp_rr | local | bare | 100 | 0 % | 1.00 | 1000.0 | 1000.0 |"[:52], "| tcp_rr | local | x | 90 | 0 % | 0.90 | 900.0 | – | – | 1 |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
}

func TestTargets(t *testing.T) {
	all := []Result{rates("bare", 100), rates("stock", 80), rates("x", 97), rates("slow", 79), rates("least", 98)}
	target := func(peer string) Target {
		return Target{Workloads: []string{"tcp_rr"}, Ways: []string{"local"}, Peer: peer, Limit: "bare", OfLimit: 0.97, Least: "least", Stock: "stock", OfStock: 1.2}
	}
	cpu := target("x")
	cpu.CPU, cpu.OfLimit, cpu.OfStock = true, 0.9, 0
	slower := target("x")
	slower.Percentile = true // it is the one of 97 that takes longer
	alone := target("x")
	alone.Least = "nobody"
	out := Targets([]Target{target("x"), target("slow"), cpu, slower, alone, target("nobody")}, all)
	want := []string{
		"| tcp_rr | local | x | 0.97 (0.97) | 0.98 | 1.21 (1.20) | yes |",
		"| tcp_rr | local | slow | 0.79 (0.97) | 0.98 | 0.99 (1.20) | **no** |",
		"| tcp_rr, CPU time | local | x | 1.00 (0.90) | 1.00 | – | **no** |",
		"| tcp_rr | local | x | 0.97 (0.97) | 0.98 | 1.21 (1.20) | **no** |",
		"| tcp_rr | local | x | 0.97 (0.97) | – | 1.21 (1.20) | yes |",
	}
	if got := strings.Split(strings.TrimSpace(out), "\n")[2:]; !slices.Equal(got, want) {
		t.Errorf("lines are\n%s", strings.Join(got, "\n"))
	}
}

func TestSpentTable(t *testing.T) {
	got := SpentTable([]Spent{{
		Workload: "crr", Way: "there", Unit: "connection", CPU: 40,
		Programs: map[string]float64{"from_uplink": 3, "from_container": 1}, Runs: map[string]float64{"from_uplink": 5, "from_container": 4},
	}})
	const want = "| crr | there | connection | 4 | 10.0 % | from_container 4 × 250 ns, from_uplink 5 × 600 ns |\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%swant at its end\n%s", got, want)
	}
}
