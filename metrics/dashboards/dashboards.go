package dashboards

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Dashboard is one dashboard as Grafana reads it.
type Dashboard struct {
	File  string // the JSON's name
	Model dashboard.Dashboard
}

// All are the dashboards, the one to begin with first.
func All() ([]Dashboard, error) {
	boards := []board{hostBoard(), containersBoard(), publishedBoard(), overlayBoard(), healthBoard()}
	var all []Dashboard
	for _, b := range boards {
		model, err := b.build(boards)
		if err != nil {
			return nil, fmt.Errorf("build dashboard %s: %w", b.uid, err)
		}
		all = append(all, Dashboard{File: b.file, Model: model})
	}
	return all, nil
}

// JSON is the content of the dashboard's file.
func (d Dashboard) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(d.Model, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write dashboard %s: %w", d.File, err)
	}
	return append(b, '\n'), nil
}
