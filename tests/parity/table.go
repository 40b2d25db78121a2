package parity

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Column is one of the hosts that the cases run on.
type Column int

// The columns, in the order of the table.
const (
	Stock   Column = iota // dockerd as installed
	NoProxy               // dockerd --userland-proxy=false
	Over                  // ebpfnet over dockerd as installed
	Alone                 // ebpfnet, dockerd --iptables=false --ip6tables=false --userland-proxy=false
	width
)

func (c Column) String() string {
	return [width]string{"Docker", "Docker, no proxy", "ebpfnet over Docker", "ebpfnet alone"}[c]
}

// Row is a case and what came of it in each column.
type Row struct {
	Case     string
	Outcomes [width]string
}

// same tells whether all columns have one outcome.
func (r Row) same() bool {
	return !slices.ContainsFunc(r.Outcomes[:], func(o string) bool { return o != r.Outcomes[0] })
}

// Difference is a line of the written list: a case, the outcomes that it may have in each column, and why ours is better.
type Difference struct {
	Case    string
	Allowed [width][]string
	Why     string
}

// either parts the outcomes of a cell. Docker's own differ between its versions.
const either = " *or* "

// ParseList reads the written list, a table in Markdown. Lines that are no rows are text.
func ParseList(text string) ([]Difference, error) {
	var list []Difference
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "case" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		if len(cells) != int(width)+2 {
			return nil, fmt.Errorf("line %d: %d cells instead of %d", n, len(cells), width+2)
		}
		d := Difference{Case: cells[0], Why: cells[width+1]}
		for c := range width {
			d.Allowed[c] = strings.Split(cells[1+c], either)
		}
		switch {
		case d.Why == "":
			return nil, fmt.Errorf("line %d: %s: no reason", n, d.Case)
		case seen[d.Case]:
			return nil, fmt.Errorf("line %d: %s is there twice", n, d.Case)
		}
		seen[d.Case] = true
		list = append(list, d)
	}
	return list, nil
}

// Compare holds rows against the list, and returns what is wrong: differences that are not on it, outcomes other than those on it, and lines
// for cases that do not differ or are not there.
func Compare(rows []Row, list []Difference) []string {
	var wrong []string
	known := map[string]Difference{}
	for _, d := range list {
		known[d.Case] = d
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Case == d.Case }) {
			wrong = append(wrong, fmt.Sprintf("%s: on the list, but there is no such case", d.Case))
		}
	}
	for _, r := range rows {
		d, listed := known[r.Case]
		column, allowed := d.allows(r)
		switch {
		case !listed && r.same(), listed && allowed:
		case !listed:
			wrong = append(wrong, r.Case+": the columns differ, and it is not on the list"+r.lines())
		case r.same():
			wrong = append(wrong, fmt.Sprintf("%s: on the list, but all columns have %q", r.Case, r.Outcomes[0]))
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %s has %q, the list %q%s", r.Case, column, r.Outcomes[column],
				strings.Join(d.Allowed[column], either), r.lines()))
		}
	}
	return wrong
}

// allows tells whether a row's outcomes are the line's, and if not, the first column whose is not.
func (d Difference) allows(r Row) (Column, bool) {
	for c := range width {
		if !slices.Contains(d.Allowed[c], r.Outcomes[c]) {
			return c, false
		}
	}
	return 0, true
}

// lines shows a row, a column in each line.
func (r Row) lines() string {
	var b strings.Builder
	for c := range width {
		fmt.Fprintf(&b, "\n    %-20s %s", c, r.Outcomes[c])
	}
	return b.String()
}

// Text is the table for a terminal. Where the columns agree, the outcome stands once.
func Text(rows []Row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "CASE\t%s\t%s\t%s\t%s\n", Stock, NoProxy, Over, Alone)
	for _, r := range rows {
		if r.same() {
			fmt.Fprintf(w, "%s\t%s\t=\t=\t=\n", r.Case, r.Outcomes[0])
			continue
		}
		fmt.Fprintf(w, "%s\t%s\n", r.Case, strings.Join(r.Outcomes[:], "\t"))
	}
	w.Flush()
	return b.String()
}

// Render is the table in Markdown: where the columns agree, the outcome stands once. A row on the list has the list's cells, which name all that
// may come out: what came out this time differs between runs, and the page does not.
func Render(rows []Row, list []Difference) string {
	var same, other strings.Builder
	same.WriteString("| case | outcome |\n| --- | --- |\n")
	other.WriteString("| case | " + Stock.String() + " | " + NoProxy.String() + " | " + Over.String() + " | " + Alone.String() + " | why ours is better |\n" +
		"| --- | --- | --- | --- | --- | --- |\n")
	agree := 0
	for _, r := range rows {
		i := slices.IndexFunc(list, func(d Difference) bool { return d.Case == r.Case })
		if i < 0 && r.same() {
			agree++
			fmt.Fprintf(&same, "| %s | %s |\n", r.Case, r.Outcomes[0])
			continue
		}
		cells, why := r.Outcomes, ""
		if i >= 0 {
			why = list[i].Why
			for c, allowed := range list[i].Allowed {
				cells[c] = strings.Join(allowed, either)
			}
		}
		fmt.Fprintf(&other, "| %s | %s | %s |\n", r.Case, strings.Join(cells[:], " | "), why)
	}
	return fmt.Sprintf("## Where they differ: %d of %d cases\n\n%s\n## Where all four agree: %d of %d cases\n\n%s",
		len(rows)-agree, len(rows), other.String(), agree, len(rows), same.String())
}
