package agent

import (
	"slices"

	"github.com/ebpfnet/ebpfnet/policy"
)

// most is how many changes of a kind are told one by one.
const most = 20

// logChanges tells what a look at the host changed, one line each.
func (a *Agent) logChanges(before, after policy.Result) {
	was := make(map[uint32]*policy.EndpointView, len(before.Endpoints))
	for i := range before.Endpoints {
		was[before.Endpoints[i].ID] = &before.Endpoints[i]
	}
	told := 0
	tell := func(text string, e *policy.EndpointView, args ...any) {
		if told++; told <= most {
			a.log.Info(text, append([]any{"name", e.Name, "bridge", e.Bridge, "address", e.Addr(), "veth", e.Veth}, args...)...)
		}
	}
	for i := range after.Endpoints {
		e := &after.Endpoints[i]
		old, known := was[e.ID]
		delete(was, e.ID)
		switch {
		case !known:
			tell("endpoint added", e)
		case old.Name != e.Name:
			tell("endpoint renamed", e, "was", old.Name)
		case !slices.Equal(old.Addrs, e.Addrs):
			tell("endpoint changed its addresses", e)
		}
	}
	for _, e := range was {
		tell("endpoint gone", e)
	}
	if told > most {
		a.log.Info("more endpoints changed", "count", told-most)
	}
	a.logBridges(before, after)
	if ports, old := len(after.Ports), len(before.Ports); ports != old {
		a.log.Info("published ports changed", "were", old, "are", ports)
	}
	for _, p := range after.Problems {
		if !slices.Contains(before.Problems, p) {
			a.log.Warn("problem", "what", p)
		}
	}
}

func (a *Agent) logBridges(before, after policy.Result) {
	attached := func(r policy.Result) map[string]bool {
		m := map[string]bool{}
		for _, b := range r.Bridges {
			m[b.Name] = b.Attached
		}
		return m
	}
	was, is := attached(before), attached(after)
	for name, now := range is {
		if now != was[name] && now {
			a.log.Info("bridge attached", "bridge", name)
		} else if now != was[name] {
			a.log.Warn("bridge left: waiting for it", "bridge", name)
		}
		delete(was, name)
	}
	for name, then := range was {
		if then {
			a.log.Info("bridge detached", "bridge", name)
		}
	}
}
