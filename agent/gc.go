package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// errDetached says that there are no tables to read any more.
var errDetached = errors.New("nothing is attached")

// sweep is what the last walk over the flow tables found.
type sweep struct {
	flows []metrics.FlowCount
	maps  []metrics.MapFill
}

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
	a.log.Debug("flows of gone endpoints deleted", "endpoints", len(gone), "entries", n)
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
		return newSweep(found, t.Fill()), nil
	})
	if err == nil {
		a.sweep.Store(s)
	}
	return err
}

// newSweep turns what was found into what metrics show.
func newSweep(found maps.Sweep, fill []maps.Fill) *sweep {
	s := &sweep{}
	for _, c := range found.Flows {
		s.flows = append(s.flows, metrics.FlowCount{Proto: policy.ProtoName(c.Proto), State: c.State, Count: c.Count})
	}
	for _, f := range slices.Concat(fill, found.Fill) {
		s.maps = append(s.maps, metrics.MapFill{Name: f.Name, Entries: f.Entries, Capacity: f.Capacity})
	}
	return s
}
