package dashboards

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/ebpfnet/ebpfnet/metrics"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the dashboards' JSON")
	flag.Parse()
	plugins.RegisterDefaultPlugins()
	os.Exit(m.Run())
}

func every(t *testing.T) []Dashboard {
	t.Helper()
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The JSON beside the code is what the code makes, and nothing else stands there.
func TestJSON(t *testing.T) {
	var files []string
	for _, d := range every(t) {
		files = append(files, d.File)
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(d.File, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(d.File)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the code makes; write it anew with -update (-want +got)\n%s", d.File, diff)
		}
		// What Grafana's own schema knows, and no more.
		var strict dashboard.Dashboard
		if err := strict.UnmarshalJSONStrict(got); err != nil {
			t.Errorf("%s: %v", d.File, err)
		}
		if err := strict.Validate(); err != nil {
			t.Errorf("%s: %v", d.File, err)
		}
	}
	there, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	if diff := cmp.Diff(files, there); diff != "" {
		t.Errorf("files (-made +there):\n%s", diff)
	}
}

// Links and bookmarks hold for as long as these stay.
func TestUIDs(t *testing.T) {
	var uids []string
	for _, d := range every(t) {
		uids = append(uids, *d.Model.Uid)
	}
	if diff := cmp.Diff([]string{"ebpfnet-host", "ebpfnet-containers", "ebpfnet-nat", "ebpfnet-overlay", "ebpfnet-health"}, uids); diff != "" {
		t.Errorf("uids (-want +got):\n%s", diff)
	}
}

// What a reader expects of any dashboard.
func TestConventions(t *testing.T) {
	all := every(t)
	for _, d := range all {
		t.Run(d.File, func(t *testing.T) {
			m := d.Model
			names := variables(t, m)
			if !slices.Equal(names[:2], []string{"datasource", "instance"}) {
				t.Errorf("variables are %v", names)
			}
			if m.Description == nil || *m.Description == "" || m.Title == nil || !strings.HasPrefix(*m.Title, "ebpfnet / ") {
				t.Error("no title or no description")
			}
			var linked []string
			for _, l := range m.Links {
				if !l.IncludeVars || !l.KeepTime {
					t.Errorf("the link to %s forgets what is chosen", l.Title)
				}
				linked = append(linked, strings.TrimPrefix(*l.Url, "/d/"))
			}
			for _, other := range all {
				if d.File != other.File && !slices.Contains(linked, *other.Model.Uid) {
					t.Errorf("no link to %s", *other.Model.Title)
				}
			}
			if len(linked) != len(all)-1 {
				t.Errorf("links lead to %v", linked)
			}
			for _, p := range panels(t, d) {
				p.conventional(t)
			}
		})
	}
}

func variables(t *testing.T, m dashboard.Dashboard) (names []string) {
	t.Helper()
	for _, v := range m.Templating.List {
		names = append(names, v.Name)
		if v.Name != "datasource" && (v.Datasource == nil || *v.Datasource.Uid != "${datasource}") {
			t.Errorf("variable %s asks another data source", v.Name)
		}
	}
	return names
}

// drawn is a panel as its JSON has it.
type drawn struct {
	Type, Title, Description string
	Datasource               struct{ UID string }
	GridPos                  struct{ W int }
	FieldConfig              struct {
		Defaults  struct{ Unit string }
		Overrides []json.RawMessage
	}
	Targets []struct {
		Expr, RefID, LegendFormat string
		Datasource                struct{ UID string }
	}
	Panels []drawn
}

func panels(t *testing.T, d Dashboard) (all []drawn) {
	t.Helper()
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var read struct{ Panels []drawn }
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, p := range read.Panels {
		if p.Type != "row" {
			all = append(all, p)
		}
		all = append(all, p.Panels...)
	}
	if len(all) == 0 {
		t.Fatal("no panels")
	}
	return all
}

func (p drawn) conventional(t *testing.T) {
	t.Helper()
	if p.Title == "" || p.Description == "" {
		t.Errorf("panel %q has no title or no description", p.Title)
	}
	if p.FieldConfig.Defaults.Unit == "" && p.Type != "table" {
		t.Errorf("panel %s has no unit", p.Title)
	}
	if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
		t.Errorf("panel %s asks %q", p.Title, p.Datasource.UID)
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.Datasource.UID != "${datasource}" {
			t.Errorf("panel %s asks %q", p.Title, q.Datasource.UID)
		}
		if refs[q.RefID] {
			t.Errorf("panel %s has two queries %s", p.Title, q.RefID)
		}
		refs[q.RefID] = true
		if p.Type == "timeseries" && q.LegendFormat == "" {
			t.Errorf("panel %s does not say what its lines are", p.Title)
		}
	}
}

// Every expression is PromQL, asks only for metrics and labels that there are, and takes rates over what Grafana chooses.
func TestQueries(t *testing.T) {
	known := map[string][]string{
		"process_resident_memory_bytes": nil, "process_cpu_seconds_total": nil, "process_start_time_seconds": nil,
	}
	for _, f := range metrics.Families() {
		known[f.Name] = f.Labels
		if f.Type == "histogram" {
			known[f.Name+"_sum"], known[f.Name+"_count"], known[f.Name+"_bucket"] = nil, nil, []string{"le"}
		}
	}
	asked := map[string]bool{}
	for _, d := range every(t) {
		queries, err := d.Queries()
		if err != nil {
			t.Fatal(err)
		}
		if len(queries) < 10 {
			t.Errorf("%s has %d queries", d.File, len(queries))
		}
		for _, q := range queries {
			if strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "[$__rate_interval]") {
				t.Errorf("%s: %s does not take its rate over $__rate_interval", q.Where, q.Expr)
			}
			expr, err := parser.ParseExpr(q.PromQL("5m"))
			if err != nil {
				t.Errorf("%s: %s: %v", q.Where, q.Expr, err)
				continue
			}
			for _, fault := range faults(expr, known, asked) {
				t.Errorf("%s: %s", q.Where, fault)
			}
		}
	}
	for _, f := range metrics.Families() {
		if !asked[f.Name] && !asked[f.Name+"_bucket"] {
			t.Errorf("no dashboard shows %s", f.Name)
		}
	}
}

// faults says what an expression asks for that is not there.
func faults(expr parser.Expr, known map[string][]string, asked map[string]bool) (all []string) {
	has := map[string]bool{"instance": true}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		s, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		asked[s.Name] = true
		own, ok := known[s.Name]
		if !ok {
			all = append(all, "no metric is called "+s.Name)
		}
		for _, l := range own {
			has[l] = true
		}
		for _, m := range s.LabelMatchers {
			if m.Name != "__name__" && m.Name != "instance" && !slices.Contains(own, m.Name) {
				all = append(all, s.Name+" has no label "+m.Name)
			}
		}
		if !slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == "instance" }) &&
			strings.HasPrefix(s.Name, "ebpfnet_") && s.Name != "ebpfnet_build_info" {
			all = append(all, s.Name+" is asked for on every host")
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		a, ok := node.(*parser.AggregateExpr)
		for i := 0; ok && i < len(a.Grouping); i++ {
			if !has[a.Grouping[i]] {
				all = append(all, "nothing there has a label "+a.Grouping[i])
			}
		}
		return nil
	})
	return all
}
