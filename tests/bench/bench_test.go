package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/bench/meter/result"
)

var (
	rounds   = flag.Int("bench-rounds", 1, "rounds of the benchmark")
	duration = flag.Duration("bench-time", 10*time.Millisecond, "how long each workload runs on each peer in a round")
	results  = flag.String("bench-results", "", "write table, samples and pictures into this folder")
)

// manyStreams is four of them at once; the other workloads are called as the meter calls them.
const manyStreams = "streams"

var workloads = []string{"tcp_rr", "udp_rr", "crr", "udp_pps", "stream", manyStreams}

// TestBench measures every workload on every way of every peer. By itself it only shows that all of it works; `make bench` gives it time.
func TestBench(t *testing.T) {
	suite.Require(t)
	meter, err := suite.Build("./tests/bench/meter")
	if err != nil {
		t.Fatal(err)
	}
	all := peers(t, meter)
	var measured []Result
	for _, workload := range workloads {
		for _, w := range ways {
			first := len(measured)
			for _, p := range all {
				if _, ok := p.ends[w]; ok {
					measured = append(measured, Result{Workload: workload, Way: string(w), Peer: p.name})
				}
			}
			for range *rounds {
				i := first
				for _, p := range all {
					e, ok := p.ends[w]
					if !ok {
						continue
					}
					s, err := sample(meter, e, workload, *duration)
					if err != nil {
						t.Fatalf("%s, %s, %s: %v", p.name, w, workload, err)
					}
					measured[i].Samples = append(measured[i].Samples, s)
					i++
				}
			}
		}
	}
	table := Table(measured, all[0].name)
	fmt.Print(table)
	if *results != "" {
		write(t, *results, measured, table)
	}
}

// sample runs a workload once.
func sample(meter string, e ends, workload string, d time.Duration) (Sample, error) {
	before, err := busy()
	if err != nil {
		return Sample{}, err
	}
	out, err := run(meter, e, workload, d)
	if err != nil {
		return Sample{}, err
	}
	after, err := busy()
	if err != nil {
		return Sample{}, err
	}
	var r result.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return Sample{}, err
	}
	if r.Count == 0 || r.Seconds == 0 {
		return Sample{}, errors.New("nothing arrived")
	}
	return Sample{
		Rate: float64(r.Count) / r.Seconds, P50: r.P50, P99: r.P99, P999: r.P999, CPU: float64((after - before).Nanoseconds()) / float64(r.Count),
	}, nil
}

// busy is how long the machine's processors have worked, interrupts included (proc(5), /proc/stat).
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	const idle, iowait, steal, tick = 4, 5, 8, 10 * time.Millisecond
	var sum time.Duration
	for i, f := range strings.Fields(line) {
		if i == 0 || i == idle || i == iowait || i >= steal {
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }

// write leaves what was measured in a folder.
func write(t *testing.T, dir string, measured []Result, table string) {
	t.Helper()
	b, err := json.MarshalIndent(measured, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "results.json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "table.md"), []byte(table), 0o644))
	for _, workload := range workloads {
		err = errors.Join(err, Plot(measured, workload, "bare", filepath.Join(dir, workload+".png")))
	}
	if err != nil {
		t.Fatal(err)
	}
}
