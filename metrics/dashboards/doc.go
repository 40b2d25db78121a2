// Package dashboards makes the Grafana dashboards for ebpfnet's metrics, which stand beside the code as JSON:
//
//	go test ./metrics/dashboards -update
//
// The invariant: a dashboard asks for no metric and no label that metrics/names.go does not have, and its uid never changes, so that links
// and bookmarks hold. It must not be imported by the agent: the JSON is for Grafana, and no part of the program.
package dashboards
