package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ebpfnet/ebpfnet/bpf"
	tables "github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// errDetached says that there are no tables to read any more.
var errDetached = errors.New("nothing is attached")

// sweep is what the last walk over the flow tables found.
type sweep struct {
	flows   []metrics.FlowCount
	maps    []metrics.MapFill
	expired map[expiry]int // since the agent began
	runs    int            // the same
	took    time.Duration  // all of them
}

// expiry is why flows are forgotten: the time of a state is over.
type expiry struct{ proto, state string }

// containerGone is the other cause.
const containerGone = "container_gone"

// purge deletes the flows of endpoints that are gone: another may get their address at once.
func (a *Agent) purge(gone []policy.Identity) error {
	if len(gone) == 0 {
		return nil
	}
	ids := make(map[uint32]bool, len(gone))
	for _, g := range gone {
		ids[g.ID] = true
	}
	n, err := a.dp.DeleteFlowsOf(ids)
	if err != nil {
		return fmt.Errorf("delete flows: %w", err)
	}
	sum, all := make(map[string]int), 0
	if before := a.purged.Load(); before != nil {
		maps.Copy(sum, *before)
	}
	for proto, count := range n {
		sum[policy.ProtoName(proto)] += count
		all += count
	}
	a.purged.Store(&sum)
	a.log.Debug("flows of gone endpoints deleted", "endpoints", len(gone), "flows", all)
	return nil
}

// counters reads the datapath's counters for a scrape. The datapath may be taken off between two of them.
type counters struct{ a *Agent }

func (c counters) PathStats(slot uint16) ([]bpf.Counter, error) {
	return readTables(c.a, func(t Tables) ([]bpf.Counter, error) { return t.PathStats(slot) })
}

func (c counters) EndpointStats(slot uint16) (bpf.EndpointCounters, error) {
	return readTables(c.a, func(t Tables) (bpf.EndpointCounters, error) { return t.EndpointStats(slot) })
}

func (c counters) DropStats() ([]bpf.Counter, error) {
	return readTables(c.a, func(t Tables) ([]bpf.Counter, error) { return t.DropStats() })
}

func (c counters) PassStats() ([]bpf.Counter, error) {
	return readTables(c.a, func(t Tables) ([]bpf.Counter, error) { return t.PassStats() })
}

func (c counters) Tallies() ([]uint64, error) {
	return readTables(c.a, func(t Tables) ([]uint64, error) { return t.Tallies() })
}

func (c counters) PublishStats(slot uint16) (bpf.PublishCounters, error) {
	return readTables(c.a, func(t Tables) (bpf.PublishCounters, error) { return t.PublishStats(slot) })
}

func (c counters) PeerStats(host bpf.AddrKey) (bpf.PeerCounters, error) {
	return readTables(c.a, func(t Tables) (bpf.PeerCounters, error) { return t.PeerStats(host) })
}

func (c counters) Programs() ([]metrics.Program, error) {
	return readTables(c.a, func(t Tables) ([]metrics.Program, error) { return t.Programs() })
}

func (c counters) Now() (uint32, error) {
	return readTables(c.a, func(t Tables) (uint32, error) { return t.Now() })
}

// readTables reads from any goroutine; the maps stay open meanwhile.
func readTables[T any](a *Agent, read func(Tables) (T, error)) (T, error) {
	a.tables.RLock()
	defer a.tables.RUnlock()
	if a.dp == nil {
		var none T
		return none, errDetached
	}
	return read(a.dp)
}

// sweepInterval is the time between two walks over the flow tables. A walk that takes long is made less often, so that walking is never
// more than a small part of what the machine does.
const (
	sweepInterval = 5 * time.Second
	sweepShare    = 50 // the time between two walks is at least so many times that of one
)

// sweepLoop forgets idle flows. It runs beside the run loop: what it deletes, the programs make anew where it was wrong.
func (a *Agent) sweepLoop(ctx context.Context) {
	t := time.NewTimer(sweepInterval)
	defer t.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		start := time.Now()
		err := a.sweepOnce()
		switch {
		case err == nil || errors.Is(err, errDetached):
			failed = ""
		case err.Error() != failed:
			failed = err.Error()
			a.log.Error("forget idle flows", "error", err)
		}
		t.Reset(max(sweepInterval, sweepShare*time.Since(start)))
	}
}

func (a *Agent) sweepOnce() error {
	s, err := readTables(a, func(t Tables) (*sweep, error) {
		start := time.Now()
		now, err := t.Now()
		if err != nil {
			return nil, err
		}
		cfg, err := t.Config()
		if err != nil {
			return nil, err
		}
		found, err := t.Expire(now, cfg)
		if err != nil {
			return nil, err
		}
		written, err := t.Written()
		if err != nil {
			return nil, err
		}
		return newSweep(a.sweep.Load(), found, slices.Concat(t.Fill(), written), time.Since(start)), nil
	})
	if err == nil {
		a.sweep.Store(s)
	}
	return err
}

// newSweep turns what was found into what metrics show. before is the sweep before it, or nil.
func newSweep(before *sweep, found tables.Sweep, fill []tables.Fill, took time.Duration) *sweep {
	s := &sweep{expired: make(map[expiry]int), runs: 1, took: took}
	if before != nil {
		s.runs += before.runs
		s.took += before.took
		for k, n := range before.expired {
			s.expired[k] = n
		}
	}
	for _, c := range found.Causes {
		s.expired[expiry{policy.ProtoName(c.Proto), c.State}] += c.Count
	}
	for _, c := range found.Flows {
		s.flows = append(s.flows, metrics.FlowCount{Proto: policy.ProtoName(c.Proto), State: c.State, Count: c.Count})
	}
	for _, f := range slices.Concat(fill, found.Fill) {
		s.maps = append(s.maps, metrics.MapFill{Name: f.Name, Entries: f.Entries, Capacity: f.Capacity})
	}
	return s
}
