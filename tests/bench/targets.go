package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Target is what a peer is to reach: so much of the limit's rate, and of another peer's, in one study.
type Target struct {
	Workloads  []string
	Ways       []string
	Peer       string
	Limit      string
	OfLimit    float64 // 0: nothing is asked
	Least      string  // a peer that does the least that can be done, whose share of the limit stands beside this one's
	Stock      string
	OfStock    float64
	Percentile bool // and no percentile of its latency may be worse than the other peer's
	CPU        bool // what is compared is the machine's time for each, of which it may need at most so much
}

// check gives a target's lines of a table: for each workload and way what was asked, what was measured, and whether it is enough.
func (t Target) check(results []Result) string {
	find := func(workload, way, peer string) *Result {
		i := slices.IndexFunc(results, func(r Result) bool { return r.Workload == workload && r.Way == way && r.Peer == peer })
		if i < 0 {
			return nil
		}
		return &results[i]
	}
	var b strings.Builder
	for _, workload := range t.Workloads {
		for _, way := range t.Ways {
			own := find(workload, way, t.Peer)
			if own == nil {
				continue
			}
			met := true
			name := workload
			if t.CPU {
				name += ", CPU time"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |", name, way, t.Peer)
			compare := func(other *Result, wanted float64) {
				if other == nil || wanted == 0 {
					b.WriteString(" – |")
					return
				}
				got := t.ratio(own, other)
				met = met && (t.CPU && got <= wanted || !t.CPU && got >= wanted)
				fmt.Fprintf(&b, " %.2f (%.2f) |", got, wanted)
			}
			limit, least, stock := find(workload, way, t.Limit), find(workload, way, t.Least), find(workload, way, t.Stock)
			compare(limit, t.OfLimit)
			if limit != nil && least != nil {
				fmt.Fprintf(&b, " %.2f |", t.ratio(least, limit))
			} else {
				b.WriteString(" – |")
			}
			compare(stock, t.OfStock)
			if stock != nil && t.Percentile {
				met = met && notSlower(*own, *stock)
			}
			b.WriteString(map[bool]string{true: " yes |\n", false: " **no** |\n"}[met])
		}
	}
	return b.String()
}

// ratio is how much of the other's rate one has, or of the machine's time that the other needs for each.
func (t Target) ratio(one, other *Result) float64 {
	if t.CPU {
		return one.cpu() / other.cpu()
	}
	return Ratio(*one, *other)
}

// cpu is the machine's time for each, over all rounds: the kernel counts it in ticks that are too coarse for one.
func (r Result) cpu() float64 {
	var sum float64
	for _, s := range r.Samples {
		sum += s.CPU
	}
	return sum / float64(len(r.Samples))
}

// notSlower tells whether no percentile of r is worse than the other's.
func notSlower(r, other Result) bool {
	for _, of := range percentiles {
		if r.median(of) > other.median(of) {
			return false
		}
	}
	return true
}

var percentiles = []func(Sample) float64{
	func(s Sample) float64 { return s.P50 }, func(s Sample) float64 { return s.P99 }, func(s Sample) float64 { return s.P999 },
}

// Targets writes the lines of all targets of one study as Markdown.
func Targets(targets []Target, results []Result) string {
	var b strings.Builder
	b.WriteString("| workload | way | peer | of the limit (wanted) | the least of it | of the other (wanted) | met |\n| --- | --- | --- | ---: | ---: | ---: | --- |\n")
	for _, t := range targets {
		b.WriteString(t.check(results))
	}
	return b.String()
}
