package dashboards

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Query is an expression that a dashboard asks, and where.
type Query struct {
	Where string // the dashboard's file and the panel's title, or the variable's name
	Expr  string // as it stands in the dashboard, with Grafana's variables
}

// Queries lists every expression of the dashboard as its JSON has them: those of panels, and what its variables take their values from.
func (d Dashboard) Queries() ([]Query, error) {
	text, err := d.JSON()
	if err != nil {
		return nil, err
	}
	type panel struct {
		Title   string
		Panels  []panel
		Targets []struct{ Expr string }
	}
	var read struct {
		panel
		Templating struct {
			List []struct {
				Name, Type string
				Definition string
			}
		}
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, fmt.Errorf("read dashboard %s: %w", d.File, err)
	}
	var all []Query
	for _, v := range read.Templating.List {
		if v.Type != "query" {
			continue
		}
		// label_values(METRIC, LABEL)
		metric, ok := strings.CutPrefix(v.Definition, "label_values(")
		i := strings.LastIndex(metric, ", ")
		if !ok || i < 0 {
			return nil, fmt.Errorf("read dashboard %s: variable %s asks for %q", d.File, v.Name, v.Definition)
		}
		all = append(all, Query{d.File + ", variable " + v.Name, fmt.Sprintf("count by (%s) (%s)", v.Name, metric[:i])})
	}
	var walk func(panels []panel)
	walk = func(panels []panel) {
		for _, p := range panels {
			for _, t := range p.Targets {
				all = append(all, Query{d.File + ", " + p.Title, t.Expr})
			}
			walk(p.Panels)
		}
	}
	walk(read.Panels)
	return all, nil
}

// PromQL is the expression as Grafana sends it with everything chosen, and a rate over that interval.
func (q Query) PromQL(interval string) string {
	return strings.NewReplacer("$__rate_interval", interval, "$instance", ".*", "$bridge", ".*", "$container", ".*", "$peer", ".*").Replace(q.Expr)
}
