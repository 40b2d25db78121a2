// Package metrics tells Prometheus what the datapath did. A scrape reads the datapath's own counters and a view that the agent keeps; no
// counter is kept twice, and nothing here runs between scrapes.
//
// The invariant: a name, its help and its labels stand in names.go and nowhere else; no label ever holds an address, a port or a flow; and
// a scrape costs a look-up per bridge and endpoint, never a walk over flows or published ports. The package reads bpf (and, through the
// Counters interface, maps); it must not import agent.
package metrics
