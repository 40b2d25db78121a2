package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// flowWriteTimeout is how long a whole list of flows may take to be read: the maps cannot be closed meanwhile.
const flowWriteTimeout = 30 * time.Second

// flowFilter says which flows are asked for. The zero value asks for all.
type flowFilter struct {
	proto     uint8           // 0: any
	endpoints map[uint32]bool // nil: any
}

func (v *view) flowFilter(container, proto string) (flowFilter, error) {
	var f flowFilter
	switch proto {
	case "":
	case "icmp":
		f.proto = 1
	default:
		p, err := policy.ParseProto(proto)
		if err != nil {
			return f, usageError{err}
		}
		f.proto = p
	}
	if container == "" {
		return f, nil
	}
	e, err := v.result.Endpoint(container)
	if err != nil {
		return f, err
	}
	f.endpoints = map[uint32]bool{e.ID: true}
	// A container may have several.
	for i := range v.result.Endpoints {
		if other := &v.result.Endpoints[i]; e.ContainerID != "" && other.ContainerID == e.ContainerID && e.Main {
			f.endpoints[other.ID] = true
		}
	}
	return f, nil
}

func (f flowFilter) wants(r *maps.FlowRow) bool {
	return (f.proto == 0 || f.proto == r.Key.Proto) && (f.endpoints == nil || f.endpoints[r.Flow.SrcId] || f.endpoints[r.Flow.DstId])
}

// flowNamer turns entries into rows for people.
type flowNamer struct {
	endpoints map[uint32]string
	paths     []string
	cfg       bpf.Config
	now       uint32
	ticks     float64 // per second
}

func (n *flowNamer) row(r *maps.FlowRow) api.Flow {
	state, _ := maps.FlowState(r.Key.Proto, r.Flow.Flags, r.Flow.Tcp, r.New, &n.cfg)
	f := api.Flow{
		Proto:      policy.ProtoName(r.Key.Proto),
		State:      state,
		Original:   tuple(r.Key.Saddr, r.Key.Daddr, r.Key.Sport, r.Key.Dport),
		Translated: tuple(r.Flow.Saddr, r.Flow.Daddr, r.Flow.Sport, r.Flow.Dport),
		Container:  n.endpoints[r.Flow.SrcId],
		Packets:    r.Flow.Packets,
		Bytes:      r.Flow.Bytes,
		Age:        float64(maps.TicksSince(n.now, r.Flow.Created)) / n.ticks,
		Idle:       float64(maps.TicksSince(n.now, r.Flow.Seen)) / n.ticks,
		Offloaded:  r.Flow.Flags&bpf.DatapathFlowFlagFLOW_OFFLOAD != 0,
	}
	if f.Container == "" {
		f.Container = n.endpoints[r.Flow.DstId]
	}
	if int(r.Flow.Path) < len(n.paths) {
		f.Path = n.paths[r.Flow.Path]
	}
	if r.Reply != nil {
		f.Reply = api.Traffic{Packets: r.Reply.Packets, Bytes: r.Reply.Bytes}
		f.Packets += r.Reply.Packets
		f.Bytes += r.Reply.Bytes
	}
	return f
}

func tuple(saddr, daddr uint32, sport, dport uint16) api.Tuple {
	return api.Tuple{
		Source: bpf.ToAddr(saddr).String(), SourcePort: bpf.ToPort(sport),
		Destination: bpf.ToAddr(daddr).String(), DestinationPort: bpf.ToPort(dport),
	}
}

// serveFlows answers with the flows as they are read: there may be too many to hold.
func (a *Agent) serveFlows(w http.ResponseWriter, r *http.Request) {
	v := a.view.Load()
	filter, err := v.flowFilter(r.URL.Query().Get("container"), r.URL.Query().Get("proto"))
	if err != nil {
		answer(func(*http.Request) (any, error) { return nil, err })(w, r)
		return
	}
	namer := &flowNamer{endpoints: make(map[uint32]string), paths: a.host.Names.Paths}
	for i := range v.result.Endpoints {
		namer.endpoints[v.result.Endpoints[i].ID] = v.result.Endpoints[i].Name
	}
	// A reader that stands still must not hold up detaching for ever. Without a deadline the server's own end does it.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(flowWriteTimeout))
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, "[")
	encoder := json.NewEncoder(w)
	first := true
	err = a.eachFlow(namer, func(row *maps.FlowRow) bool {
		if !filter.wants(row) {
			return true
		}
		if !first {
			fmt.Fprint(w, ",")
		}
		first = false
		return encoder.Encode(namer.row(row)) == nil
	})
	if err != nil {
		// The answer has begun; cut off, it is no JSON, and the asker sees that.
		a.log.Error("list flows", "error", err)
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, "]")
}

// eachFlow gives every flow to fn, once namer knows the time. While nothing is attached there are none.
func (a *Agent) eachFlow(namer *flowNamer, fn func(*maps.FlowRow) bool) error {
	a.tables.RLock()
	defer a.tables.RUnlock()
	if a.dp == nil {
		return nil
	}
	var err error
	if namer.now, err = a.dp.Now(); err != nil {
		return err
	}
	if namer.cfg, err = a.dp.Config(); err != nil {
		return err
	}
	namer.ticks = float64(max(a.dp.Features().TicksPerSecond, 1))
	return a.dp.Flows(fn)
}
