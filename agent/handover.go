package agent

import (
	"log/slog"
	"maps"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/agent/handover"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	tables "github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// Conntrack is the kernel's table of tracked connections.
type Conntrack interface {
	handover.Kernel
	offload.Table
}

// openConntrack opens the table of the process's own network namespace.
func openConntrack() (Conntrack, error) { return conntrack.Open() }

// overRules are the bridges of a state that have Docker's rules behind them, and whose flows are decided about here all the same.
func overRules(s tables.State) map[uint32]bool {
	found := map[uint32]bool{}
	for index, b := range s.Bridges {
		if b.Flags&bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES != 0 && !offloaded(b) {
			found[index] = true
		}
	}
	return found
}

// changedHands gives the bridges over Docker's rules whose flows are decided about here now and were not before, and the other way round: they
// are attached, or have changed their mode. A bridge whose rules come or go while it is attached does not change hands.
func changedHands(before, after tables.State) (coming, going map[uint32]bool) {
	coming, going = overRules(after), overRules(before)
	stays := func(s tables.State) func(uint32, bool) bool {
		return func(index uint32, _ bool) bool { b, there := s.Bridges[index]; return there && !offloaded(b) }
	}
	maps.DeleteFunc(coming, stays(before))
	maps.DeleteFunc(going, stays(after))
	return coming, going
}

// takeOver makes flows of the connections that the kernel translates for bridges that are being attached, before anything on them is decided
// here. What cannot be taken over stays with the kernel.
func (a *Agent) takeOver(bridges map[uint32]bool, r policy.Result) error {
	if len(bridges) == 0 {
		return nil
	}
	kernel, err := a.host.OpenConntrack()
	if err != nil {
		return err
	}
	defer kernel.Close()
	list, err := kernel.List()
	if err != nil {
		return err
	}
	now, err := a.dp.Now()
	if err != nil {
		return err
	}
	cfg, err := a.dp.Config()
	if err != nil {
		return err
	}
	w := handover.World{State: r.State, Bridges: bridges, Epoch: cfg.Epoch, Now: now, Route: rememberRoutes(a.host.Route)}
	taken := 0
	for i := range list {
		adoption, ok := w.Adopt(&list[i])
		if !ok {
			continue
		}
		added, err := a.dp.Adopt(adoption)
		if err != nil {
			return err
		}
		if !added {
			continue
		}
		taken++
		if list[i].TCP == conntrack.TCPNone {
			continue
		}
		// From now on it sees few of the packets, and must not think ill of those.
		if err := kernel.Update(list[i]); err != nil {
			a.log.Debug("the kernel's entry is gone", "error", err)
		}
	}
	a.log.Info("connections taken over", "tracked", len(list), "taken", taken)
	return nil
}

// handing is a handover to the kernel that is under way.
type handing struct {
	a       *Agent
	kernel  Conntrack
	export  *handover.Export
	leaving map[uint32]bool
	ids     map[uint32]bool // the containers of the bridges that leave
	handed  int
}

// handOver gives the flows of bridges that are about to be detached to the kernel, and has none begin on them any more. Out: nil where there
// is nothing to hand over.
func (a *Agent) handOver(bridges map[uint32]bool) (*handing, error) {
	if len(bridges) == 0 || a.dp == nil {
		return nil, nil
	}
	kernel, err := a.host.OpenConntrack()
	if err != nil {
		return nil, err
	}
	h := &handing{a: a, kernel: kernel, leaving: bridges, ids: map[uint32]bool{}}
	for _, e := range a.settled.State.Endpoints {
		if bridges[e.Bridge] {
			h.ids[e.Id] = true
		}
	}
	if h.export, err = handover.NewExport(kernel); err == nil {
		err = h.pass()
	}
	if err == nil {
		err = a.dp.BeginNothing(bridges)
	}
	if err == nil {
		err = h.pass()
	}
	if err != nil {
		h.kernel.Close()
		return nil, err
	}
	return h, nil
}

// pass hands over what has changed since the last pass.
func (h *handing) pass() error {
	now, err := h.a.dp.Now()
	if err != nil {
		return err
	}
	cfg, err := h.a.dp.Config()
	if err != nil {
		return err
	}
	clock := handover.Clock{Now: now, Second: h.a.dp.Features().TicksPerSecond, Config: &cfg}
	var refused error
	failed := 0
	h.handed = 0
	err = h.a.dp.Flows(func(row *tables.FlowRow) bool {
		if !h.ids[row.Flow.SrcId] && !h.ids[row.Flow.DstId] {
			return true
		}
		e, ok := handover.Entry(row, clock)
		if !ok {
			return true
		}
		if err := h.export.Put(e); err != nil {
			failed++
			refused = err
			return true
		}
		h.handed++
		return true
	})
	if failed > 0 {
		h.a.log.Warn("connections that the kernel does not take are cut", "flows", failed, "error", refused)
	}
	return err
}

// tryHandOver is handOver where detaching goes on whatever becomes of it: somebody who wants the datapath off gets it off.
func (a *Agent) tryHandOver(bridges map[uint32]bool) *handing {
	h, err := a.handOver(bridges)
	if err != nil {
		a.log.Error("connections are cut: they cannot be handed over to the kernel", "error", err)
	}
	return h
}

// finish hands over what has changed until the programs were off, and ends the handover. h may be nil.
func (h *handing) finish() {
	if h == nil {
		return
	}
	defer h.kernel.Close()
	if err := h.pass(); err != nil {
		h.a.log.Error("the last connections are cut: they cannot be handed over to the kernel", "error", err)
		return
	}
	h.a.log.Info("connections handed over", "flows", h.handed)
}

// handOverPinned is handOver for a datapath whose agent is gone. What it returns finishes that, once the programs are off. Where the datapath
// cannot be loaded any more there is nothing to go by, and its flows are cut.
func handOverPinned(p loader.Paths) (finish func()) {
	nothing := func() {}
	if !loader.Exists(p) {
		return nothing
	}
	features, err := probe(p)
	if err != nil {
		return nothing
	}
	log := slog.New(slog.DiscardHandler)
	dp, err := loadKernelDatapath(p, features, loader.DefaultSettings(), nil, log)
	if err != nil {
		return nothing
	}
	have, err := dp.Load()
	if err != nil {
		dp.Close()
		return nothing
	}
	a := &Agent{host: Host{OpenConntrack: openConntrack}, log: log, dp: dp, settled: policy.Result{State: have}}
	leaving := a.tryHandOver(overRules(have))
	return func() {
		leaving.finish()
		dp.Close()
	}
}

// kernelRoute asks the kernel for the way of a packet from behind a bridge.
func kernelRoute(bridge uint32, src, dst netip.Addr) (oif uint32, nexthop netip.Addr, ok bool) {
	routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{IifIndex: int(bridge), SrcAddr: net.IP(src.AsSlice())})
	if err != nil || len(routes) == 0 {
		return 0, netip.Addr{}, false
	}
	nexthop = dst
	if gw, isV4 := netip.AddrFromSlice(routes[0].Gw.To4()); isV4 {
		nexthop = gw
	}
	return uint32(routes[0].LinkIndex), nexthop, true
}

// rememberRoutes asks route once for each question.
func rememberRoutes(route routeFunc) routeFunc {
	type question struct {
		bridge   uint32
		src, dst netip.Addr
	}
	type answer struct {
		oif     uint32
		nexthop netip.Addr
		ok      bool
	}
	known := map[question]answer{}
	return func(bridge uint32, src, dst netip.Addr) (uint32, netip.Addr, bool) {
		q := question{bridge, src, dst}
		a, asked := known[q]
		if !asked {
			a.oif, a.nexthop, a.ok = route(bridge, src, dst)
			known[q] = a
		}
		return a.oif, a.nexthop, a.ok
	}
}

// routeFunc is handover.World.Route.
type routeFunc = func(bridge uint32, src, dst netip.Addr) (oif uint32, nexthop netip.Addr, ok bool)
