package firewall

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each testdata/*.save is the tables of a host, and *.golden beside it what is made of them.
func TestSaved(t *testing.T) {
	update := flag.Lookup("update").Value.String() == "true"
	files, err := filepath.Glob("testdata/*.save")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".save"), func(t *testing.T) {
			in, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			s := newRuleset()
			if err := parseSave(in, s.add); err != nil {
				t.Fatal(err)
			}
			s.finish()
			got := fmt.Sprintln("bridges:", slices.Sorted(maps.Keys(s.bridges)))
			for _, r := range s.foreign() {
				got += r.String() + "\n"
			}
			golden := strings.TrimSuffix(file, ".save") + ".golden"
			if update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the goldens")
	flag.Parse()
	os.Exit(m.Run())
}

func TestParseSave(t *testing.T) {
	tests := []struct {
		name, in, want, err string
	}{
		{name: "empty"},
		{name: "comments and blank lines", in: "# Warning: iptables-legacy tables present\n\n# Completed\n"},
		{name: "a chain", in: "*filter\n:FORWARD DROP [1:2]\nCOMMIT\n", want: "filter FORWARD policy=DROP []\n"},
		{name: "counters", in: "*nat\n[7:420] -A DOCKER -i docker0 -j RETURN\nCOMMIT\n", want: "nat DOCKER policy= [-i docker0 -j RETURN]\n"},
		{name: "a rule without words", in: "*filter\n-A FORWARD\nCOMMIT\n", want: "filter FORWARD policy= []\n"},
		{name: "quotes", in: `*filter` + "\n" + `-A F -m comment --comment "a \"b\" \\ -j DROP" -j X` + "\nCOMMIT\n",
			want: `filter F policy= [-m comment --comment a "b" \ -j DROP -j X]` + "\n"},
		{name: "an open quote", in: "*filter\n-A F -m comment --comment \"a\nCOMMIT\n", err: "line 2: an open quote"},
		{name: "cut off", in: "*filter\n:FORWARD DROP [1:2]\n", err: "table filter has no end"},
		{name: "no table", in: "-A FORWARD -j DROP\n", err: "line 1: outside of a table"},
		{name: "a table inside another", in: "*filter\n*nat\n", err: "line 2: a table inside another"},
		{name: "not iptables", in: "*filter\ntable inet filter {\n", err: "line 2: not a rule"},
		{name: "a chain without a policy", in: "*filter\n:FORWARD\n", err: "line 2: not a chain"},
		{name: "an endless line", in: "*filter\n-A F " + strings.Repeat("x", 2<<20), err: "token too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			err := parseSave(strings.NewReader(tt.in), func(e entry) {
				got += fmt.Sprintf("%s %s policy=%s %v\n", e.table, e.chain, e.policy, e.args)
			})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	got, ok := split(`-m comment --comment "" -j "a b"`)
	if want := []string{"-m", "comment", "--comment", "", "-j", "a b"}; !ok || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
