package dashboards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// board is what tells a dashboard from the others.
type board struct {
	uid, file, title, help string
	variables              []variable
	rows                   []row
}

// row is a line across the dashboard, with panels below it.
type row struct {
	title  string
	panels []panel
}

// variable is a choice at the dashboard's top, of the values that a label has.
type variable struct {
	name, label string // label is what Grafana shows
	metric      string // whose label of that name it is, with what narrows it
}

// The variables that dashboards share: a link takes what is chosen along.
func instances() variable {
	return variable{"instance", "Host", `ebpfnet_build_info`}
}

func bridges() variable {
	return variable{"bridge", "Bridge", `ebpfnet_endpoints{instance=~"$instance"}`}
}

func containers(metric string) variable {
	return variable{"container", "Container", metric}
}

// source is the data source that was chosen.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// build makes the dashboard, with links to all the others.
func (b board) build(all []board) (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.help).Tags([]string{"ebpfnet"}).
		Refresh("30s").Time("now-1h", "now").Timezone(common.TimeZoneBrowser).Tooltip(dashboard.DashboardCursorSyncCrosshair).Editable().
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
	for _, v := range b.variables {
		query := fmt.Sprintf("label_values(%s, %s)", v.metric, v.name)
		builder = builder.WithVariable(dashboard.NewQueryVariableBuilder(v.name).Label(v.label).Datasource(source()).
			Query(dashboard.StringOrMap{String: &query}).Definition(query).
			Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc).
			Multi(true).IncludeAll(true).AllValue(".*").
			Current(dashboard.VariableOption{
				Selected: cog.ToPtr(true),
				Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
				Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
			}))
	}
	for _, other := range all {
		if other.uid != b.uid {
			builder = builder.Link(dashboard.NewDashboardLinkBuilder(other.title).Type(dashboard.DashboardLinkTypeLink).
				Url("/d/" + other.uid).Icon("dashboard").Tooltip(other.help).IncludeVars(true).KeepTime(true))
		}
	}
	for _, r := range b.rows {
		builder = builder.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			builder = builder.WithPanel(p.builder())
		}
	}
	model, err := builder.Build()
	if err != nil {
		return dashboard.Dashboard{}, err
	}
	// The builder hides links in a menu.
	for i := range model.Links {
		model.Links[i].Placement = nil
	}
	return model, nil
}
