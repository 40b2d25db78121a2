package parity

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const listHead = "| case | a | b | c | d | why |\n| --- | --- | --- | --- | --- | --- |\n"

// A difference that is not on the list fails, so does another outcome than the list's, and so does a line that has become needless.
func TestCompare(t *testing.T) {
	list, err := ParseList("Text.\n\n" + listHead + "| known | x | x *or* y | z | z | because |\n| stale | x | x | z | z | because |\n| gone | x | x | z | z | because |\n" +
		"| some | x *or* z | x *or* z | z | z | because |\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		row  Row
		want string // in the only complaint about the row; "" for none
	}{
		{"the same", Row{"new", [width]string{"x", "x", "x", "x"}}, ""},
		{"on the list", Row{"known", [width]string{"x", "x", "z", "z"}}, ""},
		{"on the list, the second outcome", Row{"known", [width]string{"x", "y", "z", "z"}}, ""},
		{"not on the list", Row{"new", [width]string{"x", "x", "x", "z"}}, "it is not on the list"},
		{"stock differs from stock", Row{"new", [width]string{"x", "y", "x", "x"}}, "it is not on the list"},
		{"another outcome of ours", Row{"known", [width]string{"x", "x", "z", "w"}}, `ebpfnet alone has "w"`},
		{"another outcome of stock's", Row{"known", [width]string{"x", "w", "z", "z"}}, `Docker, no proxy has "w"`},
		{"stock as ours, where the list knows that of some", Row{"some", [width]string{"z", "z", "z", "z"}}, ""},
		{"stale", Row{"stale", [width]string{"x", "x", "x", "x"}}, `all columns have "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := []Row{c.row}
			for _, d := range list {
				if d.Case != c.row.Case && d.Case != "gone" {
					rows = append(rows, Row{d.Case, [width]string{"x", "x", "z", "z"}})
				}
			}
			wrong := Compare(rows, list)
			if len(wrong) == 0 || wrong[0] != "gone: on the list, but there is no such case" {
				t.Errorf("nothing about the case that is gone: %q", wrong)
			}
			rest := wrong[min(1, len(wrong)):]
			if c.want == "" && len(rest) > 0 || c.want != "" && (len(rest) != 1 || !strings.Contains(rest[0], c.want)) {
				t.Errorf("complaints: %q, want one with %q", rest, c.want)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	got, err := ParseList(listHead + "| one | x | x *or* y | z | z | because |\n")
	want := []Difference{{Case: "one", Allowed: [width][]string{{"x"}, {"x", "y"}, {"z"}, {"z"}}, Why: "because"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, text := range map[string]string{
		"no reason":   "| one | x | x | z | z | |",
		"a cell less": "| one | x | x | z | because |",
		"twice":       "| one | x | x | z | z | because |\n| one | x | x | z | z | because |",
	} {
		if _, err := ParseList(listHead + text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Where the columns agree the outcome stands once, in the terminal's table and in the page's.
func TestTables(t *testing.T) {
	rows := []Row{{"one", [width]string{"x", "x", "x", "x"}}, {"two", [width]string{"x", "y", "z", "z"}}}
	if got := Text(rows); !strings.Contains(got, "two   x       y") || strings.Count(got, "=") != 3 {
		t.Errorf("in the terminal:\n%s", got)
	}
	list := []Difference{{Case: "two", Allowed: [width][]string{{"x", "u"}, {"y"}, {"z"}, {"z"}}, Why: "because"}}
	got := Render(rows, list)
	for _, want := range []string{"| one | x |\n", "| two | x *or* u | y | z | z | because |\n", "agree: 1 of 2"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	// What may come out in several ways makes one page.
	rows[1].Outcomes[Stock] = "u"
	if again := Render(rows, list); again != got {
		t.Errorf("another page by what came out:\n%s", differing(got, again))
	}
}
