// Package metrics tells Prometheus what the datapath did. A scrape reads the datapath's own counters and a view that the agent keeps; no
// counter is kept twice, and nothing here runs between scrapes.
//
// The invariant: a name, its help and its labels stand in names.go and nowhere else; no label ever holds a flow, nor an address or a port but
// those that somebody wrote into the configuration; and a scrape costs a look-up per bridge, endpoint, peer and published port or range,
// never a walk over flows. The package reads bpf (and, through the Counters interface, maps); it must not import agent.
package metrics
