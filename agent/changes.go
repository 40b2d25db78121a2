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
	a.logPorts(before, after)
	a.logUplinks(before, after)
	for _, p := range after.Problems {
		if !slices.Contains(before.Problems, p) {
			a.log.Warn("problem", "what", p)
		}
	}
	for _, p := range before.Problems {
		if !slices.Contains(after.Problems, p) {
			a.log.Info("problem is gone", "what", p)
		}
	}
}

// portKey is what makes a published port another one.
type portKey struct {
	spec   policy.PublishSpec
	source string
}

// logPorts tells of ports by their order: what is before and behind the change is the same, and there may be very many.
func (a *Agent) logPorts(before, after policy.Result) {
	old, now := before.Ports, after.Ports
	for len(old) > 0 && len(now) > 0 && samePort(old[0], now[0]) {
		old, now = old[1:], now[1:]
	}
	for len(old) > 0 && len(now) > 0 && samePort(old[len(old)-1], now[len(now)-1]) {
		old, now = old[:len(old)-1], now[:len(now)-1]
	}
	was := make(map[portKey]policy.PortView, len(old))
	for _, p := range old {
		was[portKey{p.Spec, p.Source}] = p
	}
	told := 0
	tell := func(text string, p policy.PortView) {
		if told++; told <= most {
			row := portRow(p)
			a.log.Info(text, "port", p.Spec.String(), "container", row.Endpoint, "address", row.Address, "source", row.Source, "active", row.Active)
		}
	}
	for _, p := range now {
		k := portKey{p.Spec, p.Source}
		then, known := was[k]
		delete(was, k)
		switch {
		case !known:
			tell("port published", p)
		case !samePort(then, p):
			tell("port changed", p)
		}
	}
	for _, p := range old {
		if _, left := was[portKey{p.Spec, p.Source}]; left {
			tell("port unpublished", p)
		}
	}
	if told > most {
		a.log.Info("more published ports changed", "count", told-most)
	}
}

func samePort(a, b policy.PortView) bool {
	return a.Spec == b.Spec && a.Source == b.Source && a.Target == b.Target && a.Address == b.Address && a.Active == b.Active
}

func (a *Agent) logUplinks(before, after policy.Result) {
	attached := func(r policy.Result) map[string]bool {
		m := map[string]bool{}
		for _, u := range r.Uplinks {
			if u.Attached {
				m[u.Name] = true
			}
		}
		return m
	}
	was, is := attached(before), attached(after)
	for name := range is {
		if !was[name] {
			a.log.Info("uplink attached", "uplink", name)
		}
	}
	for name := range was {
		if !is[name] {
			a.log.Info("uplink left", "uplink", name)
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
