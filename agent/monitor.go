package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/monitor"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy"
)

const (
	// monitorWriteTimeout is how long one who looks may stand still before he is given up.
	monitorWriteTimeout = 30 * time.Second
	// lostInterval is how often it is asked how many events were lost.
	lostInterval = 250 * time.Millisecond
)

// watchWith has events come from the datapath that is loaded; nil: from nowhere, before it is closed.
func (a *Agent) watchWith(dp Datapath) {
	var open func() (monitor.Source, error)
	if dp != nil {
		open = dp.Events
	}
	if err := a.monitor.Use(open); err != nil {
		a.log.Error("monitor", "error", err)
	}
}

// serveMonitor tells events, one line each, until the asker goes or the agent ends.
func (a *Agent) serveMonitor(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) { answer(func(*http.Request) (any, error) { return nil, err })(w, r) }
	filter, err := a.view.Load().eventFilter(r.URL.Query(), a.host.Names)
	if err != nil {
		refuse(err)
		return
	}
	sub, err := a.monitor.Subscribe(!filter.drops)
	if err != nil {
		refuse(err)
		return
	}
	defer func() {
		if err := sub.Close(); err != nil {
			a.log.Error("end monitor", "error", err)
		}
	}()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := json.NewEncoder(w)
	// Without a deadline a reader that stands still only keeps his own connection.
	send := func(v api.Monitored) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(monitorWriteTimeout))
		return e.Encode(v) == nil
	}
	// The asker knows by the first line that he is heard.
	if !send(api.Monitored{}) || rc.Flush() != nil {
		return
	}
	lost := time.NewTicker(lostInterval)
	defer lost.Stop()
	namer := eventNamer{names: a.host.Names, devices: map[uint32]string{}, packet: r.URL.Query().Get("packet") != ""}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Context().Done():
			return
		case ev := <-sub.Events:
			if !filter.wants(&ev) {
				continue
			}
			namer.use(a.view.Load())
			event := namer.event(&ev)
			if !send(api.Monitored{Event: &event}) {
				return
			}
			if len(sub.Events) > 0 {
				continue
			}
		case <-lost.C:
			n, err := sub.Lost()
			if err != nil {
				a.log.Error("monitor", "error", err)
				return
			}
			if n == 0 {
				continue
			}
			if !send(api.Monitored{Lost: n}) {
				return
			}
		}
		if rc.Flush() != nil {
			return
		}
	}
}

// eventNamer turns events into what people read.
type eventNamer struct {
	names   bpf.Names
	view    *view
	ends    map[uint32]string // endpoints, by id
	devices map[uint32]string // by ifindex
	packet  bool              // the packet is asked for
}

// use has endpoints called as a view calls them.
func (n *eventNamer) use(v *view) {
	if n.view == v {
		return
	}
	n.view, n.ends = v, make(map[uint32]string, len(v.result.Endpoints))
	for i := range v.result.Endpoints {
		n.ends[v.result.Endpoints[i].ID] = v.result.Endpoints[i].Name
	}
}

func (n *eventNamer) device(index uint32) string {
	name, ok := n.devices[index]
	if !ok {
		if d, err := net.InterfaceByIndex(int(index)); err == nil {
			name = d.Name
		}
		n.devices[index] = name
	}
	return name
}

// ruleName says which rule a number in an event stands for; one that is gone since is its number.
func (v *view) ruleName(id uint32) string {
	if id == 0 {
		return ""
	}
	if v.result.Rules != nil {
		if name, ok := v.result.Rules.Rules[id]; ok {
			return name
		}
	}
	return fmt.Sprintf("number %d, which is no longer there", id)
}

// The words for verdicts.
const (
	verdictDrop    = "drop"
	verdictPass    = "pass"
	verdictForward = "forward"
	verdictHold    = "hold"

	tcShot = 2 // TC_ACT_SHOT and TCX_DROP (linux/pkt_cls.h)
)

func (n *eventNamer) event(e *bpf.Event) api.Event {
	row := api.Event{
		Time:       time.Now().Add(-time.Duration(monitor.Now() - e.Time)),
		Program:    word(n.names.Hooks, int(e.Hook)),
		Device:     n.device(e.Ifindex),
		Verdict:    verdictForward,
		Rule:       n.view.ruleName(e.Rule),
		From:       n.ends[e.SrcId],
		To:         n.ends[e.DstId],
		Original:   tuple(e.Before.Saddr, e.Before.Daddr, e.Before.Sport, e.Before.Dport),
		Translated: tuple(e.After.Saddr, e.After.Daddr, e.After.Sport, e.After.Dport),
		Length:     e.Len,
	}
	captured := e.Data[:min(int(e.Captured), len(e.Data))]
	if len(captured) >= 14 { // Ethernet
		row.EtherType = binary.BigEndian.Uint16(captured[12:])
	}
	if row.EtherType == 0x0800 {
		row.Proto = policy.ProtoName(e.Before.Proto)
	}
	if e.Known != 0 {
		row.Path = word(n.names.Paths, int(e.Path))
		row.Out = n.device(e.Oif)
	}
	switch {
	case e.Drop != 0:
		row.Verdict, row.Reason = verdictDrop, word(n.names.Drops, int(e.Drop))
	case e.Pass != 0:
		row.Verdict, row.Reason = verdictPass, word(n.names.Passes, int(e.Pass))
	case e.Verdict == tcShot:
		row.Verdict = verdictHold
	}
	if n.packet {
		row.Packet = append([]byte{}, captured...)
	}
	return row
}

// word is an enumerator's name, or nothing for a number that has none.
func word(words []string, i int) string {
	if i <= 0 && len(words) > 0 && words[0] == "none" || i >= len(words) {
		return ""
	}
	return words[i]
}

// monitorQuery reads what client.Monitor writes.
func monitorQuery(q url.Values) api.MonitorQuery {
	return api.MonitorQuery{
		Drops: q.Get("drops") != "", Container: q.Get("container"), Proto: q.Get("proto"), Port: q.Get("port"), Address: q.Get("address"),
		Reason: q.Get("reason"), Packet: q.Get("packet") != "",
	}
}
