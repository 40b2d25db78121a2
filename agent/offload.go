package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/handover"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/bpf"
	tables "github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// calm is the time for which rules that are not Docker's have to be gone before a bridge in mode auto does without asking: a firewall that loads
// its rules anew is without them for a moment.
const calm = 5 * time.Second

func offloaded(b bpf.Bridge) bool { return b.Flags&bpf.DatapathBridgeFlagBRIDGE_OFFLOAD != 0 }

// offloadedBridges are the bridges of a state where the host's own rules decide.
func offloadedBridges(s tables.State) map[uint32]bool {
	found := map[uint32]bool{}
	for index, b := range s.Bridges {
		if offloaded(b) {
			found[index] = true
		}
	}
	return found
}

// newCarrier makes what carries connections that the kernel has established.
func newCarrier(a *Agent) *offload.Carrier {
	return offload.New(offload.Host{
		Open: func() (offload.Table, error) {
			t, err := a.host.OpenConntrack()
			if err != nil {
				return nil, err
			}
			return t, nil
		},
		Listen: a.host.ListenConntrack,
		Flows: func(f func(offload.Flows) error) error {
			_, err := readTables(a, func(t Tables) (struct{}, error) { return struct{}{}, f(t) })
			return err
		},
		Route:  func() routeFunc { return rememberRoutes(a.host.Route) },
		Second: a.host.Features.TicksPerSecond,
		Log:    a.log,
	})
}

// carry tells the carrier what is in force.
func (a *Agent) carry(r policy.Result) {
	bridges := offloadedBridges(r.State)
	if len(bridges) == 0 {
		a.carrier.Set(nil)
		return
	}
	a.carrier.Set(&handover.World{State: r.State, Bridges: bridges})
}

// stopOffload has the kernel alone carry the flows of bridges on which its rules are not to be asked any more, so that what it translates can be
// taken over as what it is.
func (a *Agent) stopOffload(r policy.Result) error {
	before, after := offloadedBridges(a.settled.State), offloadedBridges(r.State)
	ended := false
	for index := range before {
		ended = ended || !after[index]
	}
	if !ended {
		return nil
	}
	if len(after) == 0 {
		a.carrier.Set(nil)
	} else {
		a.carrier.Set(&handover.World{State: r.State, Bridges: after})
	}
	ids := endpointsOf(a.settled.State, func(bridge uint32) bool { return before[bridge] && !after[bridge] })
	_, err := a.dp.DeleteFlows(func(_ *bpf.FlowKey, f *bpf.Flow) bool {
		return f.Flags&bpf.DatapathFlowFlagFLOW_OFFLOAD != 0 && (ids[f.SrcId] || ids[f.DstId])
	})
	if err != nil {
		return fmt.Errorf("delete flows: %w", err)
	}
	return nil
}

// forgetNative deletes what was decided here on bridges where the host's rules decide from now on. The programs take it for nothing already.
func (a *Agent) forgetNative(r policy.Result) error {
	before, after := offloadedBridges(a.settled.State), offloadedBridges(r.State)
	ids := endpointsOf(r.State, func(bridge uint32) bool { return after[bridge] && !before[bridge] })
	if len(ids) == 0 {
		return nil
	}
	_, err := a.dp.DeleteFlows(func(_ *bpf.FlowKey, f *bpf.Flow) bool {
		return f.Flags&bpf.DatapathFlowFlagFLOW_OFFLOAD == 0 && (ids[f.SrcId] || ids[f.DstId])
	})
	if err != nil {
		return fmt.Errorf("delete flows: %w", err)
	}
	return nil
}

// endpointsOf are the ids of the containers on some bridges. 0, which is nobody's, is not among them.
func endpointsOf(s tables.State, of func(bridge uint32) bool) map[uint32]bool {
	ids := map[uint32]bool{}
	for _, e := range s.Endpoints {
		if of(e.Bridge) {
			ids[e.Id] = true
		}
	}
	return ids
}

// quiet holds on to rules that have gone a moment ago, while a bridge asks them.
func (a *Agent) quiet(o *policy.Observed) {
	switch {
	case len(o.ForeignRules) > 0:
		a.rules.last, a.rules.gone = o.ForeignRules, time.Time{}
		return
	case len(a.rules.last) == 0:
		return
	case a.rules.gone.IsZero():
		a.rules.gone = time.Now()
	}
	left := calm - time.Since(a.rules.gone)
	if left <= 0 || len(offloadedBridges(a.settled.State)) == 0 {
		a.rules.last = nil
		return
	}
	o.ForeignRules = a.rules.last
	time.AfterFunc(left, func() {
		select {
		case a.again <- struct{}{}:
		default:
		}
	})
}

// foreignRules is what is known of rules that are not Docker's.
type foreignRules struct {
	last []string  // as they were seen last; none where they have been gone for long
	gone time.Time // when they were first missed; zero while they are there
}

// rulesInterval is the time between two times that offloaded flows are put to rules that change without end.
const rulesInterval = 20 * time.Millisecond

// rulesLoop has the rules decide about the next packet of each offloaded flow as soon as one of them changes. It runs beside the run loop, which
// may be at something long.
func (a *Agent) rulesLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.host.Observer.Ruled():
		}
		if v := a.view.Load(); len(offloadedBridges(v.result.State)) > 0 {
			_, err := readTables(a, func(t Tables) (struct{}, error) { return struct{}{}, t.MoveEpoch() })
			if err != nil && !errors.Is(err, errDetached) {
				a.log.Error("put flows to changed rules", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rulesInterval):
		}
	}
}
