package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// way is from whom to whom packets go.
type way string

// peer is one of those that are compared. It need not have every way.
type peer struct {
	name string
	ends map[way]ends
}

// study is what is measured in turns: each workload on each way, by all peers one after the other in each round.
type study struct {
	name      string // of its files
	limit     string // the peer that the others are compared with
	least     string // the peer that does the least that can be done, if there is one
	workloads []string
	ways      []way
	peers     []peer
	targets   []Target
}

// run measures, prints a table, and writes the results where they are wanted.
func (s study) run(t *testing.T, m meter) {
	t.Helper()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	s.workloads = slices.DeleteFunc(s.workloads, func(w string) bool { return !wanted.MatchString(w) })
	var all []Result
	for _, workload := range s.workloads {
		for _, w := range s.ways {
			all = append(all, s.turns(t, m, workload, w)...)
		}
	}
	table := Table(all, s.limit)
	for i := range s.targets {
		s.targets[i].Limit, s.targets[i].Least = s.limit, s.least
	}
	if len(s.targets) > 0 {
		table += "\n" + Targets(s.targets, all)
	}
	fmt.Print(table)
	if *results == "" {
		return
	}
	keep(t, s.name+".json", marshal(t, all))
	keep(t, s.name+".md", []byte(table))
	for _, workload := range s.workloads {
		if err := Plot(all, workload, s.limit, filepath.Join(*results, s.name+"-"+strings.ReplaceAll(workload, ", ", "-")+".png")); err != nil {
			t.Fatal(err)
		}
	}
}

// turns measures one workload on one way, in rounds.
func (s study) turns(t *testing.T, m meter, workload string, w way) []Result {
	t.Helper()
	var measured []Result
	var at []ends
	for _, p := range s.peers {
		if e, ok := p.ends[w]; ok {
			measured = append(measured, Result{Workload: workload, Way: string(w), Peer: p.name})
			at = append(at, e)
		}
	}
	for range *rounds {
		for i, e := range at {
			sample, err := m.sample(e, workload, *duration)
			if err != nil {
				t.Fatalf("%s, %s, %s: %v", measured[i].Peer, w, workload, err)
			}
			measured[i].Samples = append(measured[i].Samples, sample)
		}
	}
	return measured
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// keep leaves a file in the folder of results.
func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(*results, 0o755), os.WriteFile(filepath.Join(*results, name), content, 0o644)); err != nil {
		t.Fatal(err)
	}
}
