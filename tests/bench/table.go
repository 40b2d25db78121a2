package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sample is one run of one workload on one way of one peer.
type Sample struct {
	Rate           float64 `json:"rate"` // a second: requests, connections, datagrams or bytes
	P50, P99, P999 float64 `json:",omitempty"`
	CPU            float64 `json:"cpu"` // the whole machine's, in nanoseconds for each of what is counted
}

// Result is a peer's samples, in the order in which they were taken.
type Result struct {
	Workload string   `json:"workload"`
	Way      string   `json:"way"`
	Peer     string   `json:"peer"`
	Samples  []Sample `json:"samples"`
}

// median of one figure of all samples.
func (r Result) median(of func(Sample) float64) float64 {
	if len(r.Samples) == 0 {
		return 0
	}
	all := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		all[i] = of(s)
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// Rate is the median of the rates.
func (r Result) Rate() float64 { return r.median(func(s Sample) float64 { return s.Rate }) }

// spread is how far the rates lie apart, as a share of the median.
func (r Result) spread() float64 {
	if r.Rate() == 0 {
		return 0
	}
	by := func(a, b Sample) int { return cmp.Compare(a.Rate, b.Rate) }
	return (slices.MaxFunc(r.Samples, by).Rate - slices.MinFunc(r.Samples, by).Rate) / r.Rate()
}

// Ratio is the median of each round's ratio to the limit: what the machine did beside is in both of a round.
func Ratio(r, limit Result) float64 {
	n := min(len(r.Samples), len(limit.Samples))
	ratios := Result{Samples: make([]Sample, 0, n)}
	for i := range n {
		if limit.Samples[i].Rate > 0 {
			ratios.Samples = append(ratios.Samples, Sample{Rate: r.Samples[i].Rate / limit.Samples[i].Rate})
		}
	}
	return ratios.Rate()
}

// Table writes results as Markdown: for each workload and way a line for each peer. limit is the peer that the others are compared with.
func Table(results []Result, limit string) string {
	var b strings.Builder
	b.WriteString("| workload | way | peer | a second | spread | of the limit | p50 µs | p99 µs | p99.9 µs | CPU ns |\n")
	b.WriteString("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, r := range results {
		i := slices.IndexFunc(results, func(l Result) bool { return l.Peer == limit && l.Way == r.Way && l.Workload == r.Workload })
		ratio := "–"
		if i >= 0 {
			ratio = fmt.Sprintf("%.2f", Ratio(r, results[i]))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.4g | %.0f %% | %s |", r.Workload, r.Way, r.Peer, r.Rate(), 100*r.spread(), ratio)
		for _, of := range percentiles {
			if v := r.median(of); v > 0 {
				fmt.Fprintf(&b, " %.1f |", v)
			} else {
				b.WriteString(" – |")
			}
		}
		fmt.Fprintf(&b, " %.4g |\n", r.cpu())
	}
	return b.String()
}
