package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// print writes v as JSON, or as the table that rows makes.
func (a *app) print(v any, table func(w *tableWriter)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	w := newTable(a.stdout)
	table(w)
	return w.flush()
}

// list is print for a list, which is [] in JSON where it is empty.
func list[T any](a *app, l []T, table func(w *tableWriter)) error {
	if l == nil {
		l = []T{}
	}
	return a.print(l, table)
}

// tableWriter prints rows in columns. An empty cell is shown as a dash, so that columns can be counted.
type tableWriter struct{ w *tabwriter.Writer }

func newTable(out io.Writer) *tableWriter {
	return &tableWriter{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
}

func (t *tableWriter) row(cells ...any) {
	s := make([]string, len(cells))
	for i, c := range cells {
		if s[i] = printable(fmt.Sprint(c)); s[i] == "" {
			s[i] = "-"
		}
	}
	// No tab behind the last cell: a tabwriter would pad it.
	fmt.Fprintln(t.w, strings.Join(s, "\t"))
}

// printable takes away what would move the cursor or change the colours: a network namespace's name may hold anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0x202e {
			return '?'
		}
		return r
	}, s)
}

// line prints text that is no row.
func (t *tableWriter) line(format string, args ...any) {
	t.w.Flush()
	fmt.Fprintf(t.w, format+"\n", args...)
	t.w.Flush()
}

func (t *tableWriter) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
