package agent

import (
	"fmt"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/observe"
)

func (a *Agent) listEndpoints() ([]api.Endpoint, error) {
	v := a.view.Load()
	rows := make([]api.Endpoint, len(v.result.Endpoints))
	for i := range v.result.Endpoints {
		e := &v.result.Endpoints[i]
		var err error
		if rows[i], err = a.withCounters(v.endpointRow(e), e.Slot); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// getEndpoint shows an endpoint, and looks into its namespace. What cannot be looked at is told and left out.
func (a *Agent) getEndpoint(name string) (api.EndpointDetail, error) {
	v := a.view.Load()
	e, err := v.result.Endpoint(name)
	if err != nil {
		return api.EndpointDetail{}, err
	}
	d := api.EndpointDetail{Routes: []api.Route{}}
	if d.Endpoint, err = a.withCounters(v.endpointRow(e), e.Slot); err != nil {
		return d, err
	}
	pair, err := a.host.Inside(e.Index)
	if err != nil {
		d.NotLooked = strings.Join(oneLine(err), "; ")
	}
	d.Host, d.Inside = vethEnd(pair.Host), vethEnd(pair.Container)
	for _, r := range pair.Routes {
		d.Routes = append(d.Routes, route(r))
	}
	return d, nil
}

func vethEnd(e observe.End) api.VethEnd {
	end := api.VethEnd{Name: e.Name, Ifindex: e.Index, MAC: e.MAC.String(), MTU: e.MTU, Up: e.Up, Path: e.Path}
	if e.Inode != 0 {
		end.Namespace = fmt.Sprintf("net:[%d]", e.Inode)
	}
	return end
}

func route(r observe.Route) api.Route {
	row := api.Route{Destination: "default", Device: r.Device, Metric: r.Metric}
	if r.Destination.Bits() != 0 {
		row.Destination = r.Destination.String()
	}
	if r.Gateway.IsValid() {
		row.Gateway = r.Gateway.String()
	}
	if r.Source.IsValid() {
		row.Source = r.Source.String()
	}
	return row
}
