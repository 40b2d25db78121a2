package parity

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/parity.md from what came out")

const (
	listPath = "allowed.md"
	docPath  = "../../docs/parity.md"
)

// A check is one case: what it is called in the table, and how its outcome is found out. Cases run side by side, but for those that change
// what others rely on, a device's MTU say: those run alone, after the others.
type check struct {
	name  string
	alone bool
	see   func(t *testing.T, s *site) string
}

// Every case has the same outcome in all columns, or stands on the written list.
func TestParity(t *testing.T) {
	text, err := os.ReadFile(listPath)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseList(string(text))
	if err != nil {
		t.Fatalf("%s: %v", listPath, err)
	}
	rows, docker := see(t, checks(), []Column{Stock, NoProxy, Over, Alone})
	if t.Failed() {
		return
	}
	fmt.Print(Text(rows))
	for _, w := range Compare(rows, list) {
		t.Error(w)
	}
	document(t, docker, Render(rows, list))
}

// see runs cases in columns. Out: a row for each case, and Docker's version. guards are as build's.
func see(t *testing.T, all []check, columns []Column, guards ...string) (rows []Row, docker string) {
	t.Helper()
	rows = make([]Row, len(all))
	names := map[string]bool{}
	for i, c := range all {
		if rows[i].Case = c.name; names[c.name] {
			t.Fatalf("%s: two cases with one name", c.name)
		}
		names[c.name] = true
	}
	var mu sync.Mutex
	t.Run("columns", func(t *testing.T) {
		for _, column := range columns {
			t.Run(column.String(), func(t *testing.T) {
				t.Parallel()
				s := build(t, column, guards...)
				run := func(alone bool) func(t *testing.T) {
					return func(t *testing.T) {
						for i, c := range all {
							if c.alone != alone {
								continue
							}
							t.Run(c.name, func(t *testing.T) {
								if !alone {
									t.Parallel()
								}
								outcome := c.see(t, s)
								if strings.ContainsAny(outcome, "|\n") {
									t.Fatalf("not fit for a table: %q", outcome)
								}
								mu.Lock()
								defer mu.Unlock()
								rows[i].Outcomes[column] = outcome
							})
						}
					}
				}
				t.Run("together", run(false))
				t.Run("alone", run(true))
				mu.Lock()
				defer mu.Unlock()
				docker = s.version(t)
			})
		}
	})
	return rows, docker
}
