package agent

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/activity"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
)

const (
	// watchTimeout is how long who talks to whom is remembered once nobody asks any more.
	watchTimeout = 30 * time.Second
	// A walk over the flow tables serves all who ask within walkAge, or within so many times the time that it took.
	walkAge   = 500 * time.Millisecond
	walkShare = 20
	// maxPorts is how many published ports are told one by one.
	maxPorts = 500
)

// watch remembers who talked to whom while somebody looks. Nothing runs for it but a timer that ends it.
type watch struct {
	mu      sync.Mutex
	tracker *activity.Tracker // nil while nobody looks
	number  uint64
	walked  time.Time
	took    time.Duration
	timeout *time.Timer
}

// traffic is what a watch knows at a moment.
type traffic struct {
	watch    uint64
	edges    []api.Edge
	flows    map[uint32]int
	services map[activity.Service]int
	partial  bool
}

// look walks over the flow tables, where the last walk is too old, and keeps the watch alive. gone tells endpoints whose edges are not
// wanted any more.
func (w *watch) look(walk func(func(*bpf.FlowKey, *bpf.Flow)) error, gone func(uint32) bool) (traffic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tracker == nil {
		w.tracker, w.walked = activity.New(), time.Time{}
		w.number++
		w.timeout = time.AfterFunc(watchTimeout, w.end)
	}
	w.timeout.Reset(watchTimeout)
	t := w.tracker
	if start := time.Now(); start.Sub(w.walked) >= max(walkAge, walkShare*w.took) {
		t.Begin()
		if err := walk(t.Add); err != nil {
			return traffic{}, err
		}
		t.End()
		w.walked, w.took = time.Now(), time.Since(start)
	}
	// The next walk makes new maps of Flows and Services; Pairs go on and are copied.
	seen := traffic{watch: w.number, edges: make([]api.Edge, 0, len(t.Pairs)), flows: t.Flows, services: t.Services, partial: t.Partial}
	for pair, sum := range t.Pairs {
		if gone(pair.From) || gone(pair.To) {
			delete(t.Pairs, pair)
			continue
		}
		seen.edges = append(seen.edges, api.Edge{From: pair.From, To: pair.To, Packets: sum.Packets, Bytes: sum.Bytes})
	}
	slices.SortFunc(seen.edges, func(a, b api.Edge) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return seen, nil
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tracker = nil
}

// activity tells what goes on. It may be called from any goroutine; the cost is the caller's walk over the flow tables.
func (a *Agent) activity() (api.Activity, error) {
	v := a.view.Load()
	f := a.host.Features
	act := api.Activity{
		Instance: a.o.Paths.Instance, Version: a.o.Version,
		Kernel: f.Release + " " + f.Hook(), Docker: v.docker,
		Bridges: v.bridgeStatus(), Uplinks: v.uplinkStatus(f.Hook()),
		Problems: append([]string{}, v.problems...), PortCount: len(v.result.Ports),
		Tables: []api.Table{}, Ports: []api.PortActivity{}, Edges: []api.Edge{},
	}
	act.Mode = commonMode(act.Bridges)
	if s := a.sweep.Load(); s != nil {
		for _, m := range s.maps {
			act.Tables = append(act.Tables, api.Table{Name: m.Name, Entries: m.Entries, Capacity: m.Capacity})
		}
	}
	seen, err := a.traffic(v)
	if err != nil {
		return act, err
	}
	act.Watch, act.Partial = seen.watch, seen.partial
	if seen.edges != nil {
		act.Edges = seen.edges
	}
	act.Ports = v.portActivity(seen.services)
	// The clock is read beside the counters that exact rates are made of.
	act.At = time.Since(a.born).Seconds()
	if act.Endpoints, err = a.endpointActivity(v, seen.flows); err != nil {
		return act, err
	}
	if act.Drops, err = a.reasons(a.host.Names.Drops, Tables.DropStats); err != nil {
		return act, err
	}
	act.Passed, err = a.reasons(a.host.Names.Passes, Tables.PassStats)
	return act, err
}

// traffic looks at the flow tables. While nothing is attached there is none.
func (a *Agent) traffic(v *view) (traffic, error) {
	known := make(map[uint32]bool, len(v.result.Endpoints)+2)
	known[activity.Outside], known[activity.Host] = true, true
	for i := range v.result.Endpoints {
		known[v.result.Endpoints[i].ID] = true
	}
	return a.watch.look(func(add func(*bpf.FlowKey, *bpf.Flow)) error {
		a.tables.RLock()
		defer a.tables.RUnlock()
		if a.dp == nil {
			return nil
		}
		return a.dp.FlowEntries(add)
	}, func(id uint32) bool { return !known[id] })
}

func (a *Agent) endpointActivity(v *view, flows map[uint32]int) ([]api.EndpointActivity, error) {
	rows := make([]api.EndpointActivity, len(v.result.Endpoints))
	for i := range v.result.Endpoints {
		e := &v.result.Endpoints[i]
		var err error
		rows[i] = api.EndpointActivity{ID: e.ID, Name: e.Name, Container: e.Container, Bridge: e.Bridge, Flows: flows[e.ID]}
		if rows[i].Counters, err = a.endpointCounters(e.Slot); err != nil {
			return nil, err
		}
		if addr := e.Addr(); addr.IsValid() {
			rows[i].Address = addr.String()
		}
	}
	return rows, nil
}

// portActivity gives the first ports, those that lead somewhere before those that do not.
func (v *view) portActivity(services map[activity.Service]int) []api.PortActivity {
	ids := make(map[string]uint32, len(v.result.Endpoints))
	for i := range v.result.Endpoints {
		ids[v.result.Endpoints[i].Name] = v.result.Endpoints[i].ID
	}
	rows := make([]api.PortActivity, 0, min(len(v.result.Ports), maxPorts))
	for _, active := range []bool{true, false} {
		for _, p := range v.result.Ports {
			if p.Active != active || len(rows) == maxPorts {
				continue
			}
			row := api.PortActivity{Port: portRow(p)}
			for s, n := range services {
				if s.Target == ids[p.Target] && s.Proto == p.Spec.Proto && p.Spec.HostPort <= s.Port && s.Port <= p.Spec.HostEnd {
					row.Flows += n
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// reasons gives every reason that has counted.
func (a *Agent) reasons(names []string, read func(Tables) ([]bpf.Counter, error)) ([]api.ReasonCount, error) {
	rows := []api.ReasonCount{}
	counters, err := readTables(a, read)
	if errors.Is(err, errDetached) {
		return rows, nil
	}
	for i, c := range counters {
		if i > 0 && i < len(names) && c.Packets > 0 {
			rows = append(rows, api.ReasonCount{Reason: names[i], Packets: c.Packets})
		}
	}
	slices.SortFunc(rows, func(a, b api.ReasonCount) int { return cmp.Compare(b.Packets, a.Packets) })
	return rows, err
}
