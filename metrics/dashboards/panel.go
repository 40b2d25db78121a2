package dashboards

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// A dashboard is as wide as this, whatever the screen.
const columns = 24

// query is one PromQL expression and how its lines are called.
type query struct {
	expr, legend string
}

// panel is one picture on a dashboard.
type panel interface {
	builder() cog.Builder[dashboard.Panel]
}

// lines is a graph over time.
type lines struct {
	title, help, unit string
	width             uint32 // in columns; 0: half of them
	stacked           bool
	queries           []query
}

func (p lines) builder() cog.Builder[dashboard.Panel] {
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.help).Unit(p.unit).Datasource(source()).
		Span(or(p.width, columns/2)).Height(8).Min(0).LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementBottom).
			ShowLegend(true).Calcs([]string{"mean", "max", "lastNotNull"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.stacked {
		b = b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A")).FillOpacity(40)
	}
	for i, q := range p.queries {
		b = b.WithTarget(target(i, q).Range())
	}
	return b
}

// number is one value, large, with its course behind it.
type number struct {
	title, help, unit string
	width             uint32  // in columns; 0: a sixth of them
	bad               float64 // from here on it is red; 0: never
	expr              string
}

func (p number) builder() cog.Builder[dashboard.Panel] {
	b := stat.NewPanelBuilder().Title(p.title).Description(p.help).Unit(p.unit).Datasource(source()).
		Span(or(p.width, columns/6)).Height(4).GraphMode(common.BigValueGraphModeArea).ColorMode(common.BigValueColorModeValue).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).Thresholds(thresholds(p.bad))
	return b.WithTarget(target(0, query{p.expr, ""}).Range())
}

// bars shows how much of something is used, a bar for each line of the answer.
type bars struct {
	title, help string
	width       uint32 // in columns; 0: half of them
	bad         float64
	query       query // a share: 1 is all
}

func (p bars) builder() cog.Builder[dashboard.Panel] {
	return bargauge.NewPanelBuilder().Title(p.title).Description(p.help).Unit("percentunit").Min(0).Max(1).Datasource(source()).
		Span(or(p.width, columns/2)).Height(8).DisplayMode(common.BarGaugeDisplayModeBasic).Orientation(common.VizOrientationHorizontal).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).Thresholds(thresholds(p.bad)).
		WithTarget(target(0, p.query).Instant())
}

// column is one of a list's columns. It takes its values from a query of its own.
type column struct {
	name, unit, expr string
}

// list is a table of what there is now: a line for each set of labels that the queries have in common.
type list struct {
	title, help string
	width       uint32            // in columns; 0: all of them
	labels      map[string]string // how labels are called; the others are not shown
	columns     []column
}

func (p list) builder() cog.Builder[dashboard.Panel] {
	names := map[string]string{}
	hidden := map[string]bool{"Time": true, "__name__": true, "job": true}
	for label, name := range p.labels {
		names[label] = name
	}
	b := table.NewPanelBuilder().Title(p.title).Description(p.help).Datasource(source()).Span(or(p.width, columns)).Height(8)
	for i, c := range p.columns {
		value := "Value #" + ref(i)
		if len(p.columns) == 1 {
			value = "Value"
		}
		if c.name == "" {
			hidden[value] = true
		}
		names[value] = c.name
		b = b.WithTarget(target(i, query{c.expr, ""}).Instant().Format(prometheus.PromQueryFormatTable))
		if c.unit != "" {
			b = b.OverrideByName(c.name, []dashboard.DynamicConfigValue{{Id: "unit", Value: c.unit}})
		}
	}
	return b.WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"excludeByName": hidden, "renameByName": names}})
}

func target(i int, q query) *prometheus.DataqueryBuilder {
	b := prometheus.NewDataqueryBuilder().Expr(oneLine(q.expr)).RefId(ref(i)).EditorMode(prometheus.QueryEditorModeCode).Datasource(source())
	if q.legend != "" {
		b = b.LegendFormat(q.legend)
	}
	return b
}

// ref is what Grafana calls a panel's queries.
func ref(i int) string { return fmt.Sprintf("%c", 'A'+i) }

// oneLine lets an expression be written on several lines.
func oneLine(expr string) string { return strings.Join(strings.Fields(expr), " ") }

func thresholds(bad float64) cog.Builder[dashboard.ThresholdsConfig] {
	steps := []dashboard.Threshold{{Color: "green"}}
	if bad != 0 {
		steps = append(steps, dashboard.Threshold{Value: &bad, Color: "red"})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func or(width, usual uint32) uint32 {
	if width == 0 {
		return usual
	}
	return width
}
