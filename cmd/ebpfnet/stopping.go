package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

// stopping is what stops with a datapath that nobody stands in for.
type stopping struct {
	bridges    []string
	containers int
	flows      map[string]int // by kind
}

// cutKinds are the kinds of flows that need translation, or a way that only the datapath has, in the order in which they are told. Containers
// of one bridge, and the host, reach a container's own address without anybody's help.
func cutKinds() []string { return []string{"in", "out", "between containers", "to other hosts"} }

// cutBy finds out whose traffic stops with the bridges: where no rules of Docker's stand behind them, nobody else carries it.
func cutBy(ctx context.Context, c *client.Client, s api.Status, r api.DetachRequest) (stopping, error) {
	var found stopping
	for _, b := range s.Bridges {
		if (r.All || slices.Contains(r.Bridges, b.Name)) && b.Attached && b.Endpoints > 0 && b.Rules != "docker" {
			found.bridges = append(found.bridges, b.Name)
			found.containers += b.Endpoints
		}
	}
	if len(found.bridges) == 0 {
		return found, nil
	}
	endpoints, err := c.Endpoints(ctx)
	if err != nil {
		return found, err
	}
	on := map[string]bool{}
	for _, e := range endpoints {
		if slices.Contains(found.bridges, e.Bridge) {
			on[e.Name] = true
		}
	}
	flows, err := c.Flows(ctx, "", "")
	if err != nil {
		return found, err
	}
	found.flows = map[string]int{}
	for _, f := range flows {
		if kind := cutKind(f); kind != "" && on[f.Container] {
			found.flows[kind]++
		}
	}
	return found, nil
}

func cutKind(f api.Flow) string {
	switch {
	case f.Path == "in", f.Path == "out":
		return f.Path
	case f.Path == "overlay":
		return "to other hosts"
	case f.Path == "local" && f.Original != f.Translated:
		return "between containers"
	}
	return ""
}

func (c stopping) total() int {
	n := 0
	for _, k := range cutKinds() {
		n += c.flows[k]
	}
	return n
}

// String says it in words, for a sentence; "" where nothing stops.
func (c stopping) String() string {
	if len(c.bridges) == 0 {
		return ""
	}
	var kinds []string
	for _, k := range cutKinds() {
		if n := c.flows[k]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, k))
		}
	}
	flows := fmt.Sprintf("%d flows", c.total())
	if len(kinds) > 0 {
		flows += " (" + strings.Join(kinds, ", ") + ")"
	}
	return fmt.Sprintf("%s of %d containers on %s, whose traffic no rules of Docker's carry", flows, c.containers, strings.Join(c.bridges, ", "))
}
