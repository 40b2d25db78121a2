package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// topView is what `ebpfnet top` shows: what happened between two looks at the agent's counters, each rate per second.
type topView struct {
	Instance  string    `json:"instance"`
	Seconds   float64   `json:"seconds"` // between the two looks
	Endpoints []topRow  `json:"endpoints"`
	Drops     []topDrop `json:"drops"`
	Problems  []string  `json:"problems"`
}

// topRow is one container. Received is what it got; bytes include the link-layer header.
type topRow struct {
	Name            string  `json:"name"`
	Container       string  `json:"container"`
	Bridge          string  `json:"bridge"`
	Address         string  `json:"address"`
	ReceiveBytes    float64 `json:"receive_bytes"`
	TransmitBytes   float64 `json:"transmit_bytes"`
	ReceivePackets  float64 `json:"receive_packets"`
	TransmitPackets float64 `json:"transmit_packets"`
	Drops           float64 `json:"drops"`
	Flows           int     `json:"flows"` // that the datapath knows now
}

// topDrop is a reason for drops, of all containers.
type topDrop struct {
	Reason  string  `json:"reason"`
	Packets uint64  `json:"packets"` // ever
	Rate    float64 `json:"rate"`
}

// newTopView makes rates of two answers. A container that was not in the first has begun at 0 since.
func newTopView(before, now api.Activity) topView {
	v := topView{Instance: now.Instance, Seconds: now.At - before.At, Endpoints: []topRow{}, Drops: []topDrop{}, Problems: now.Problems}
	per := func(now, before uint64) float64 {
		if now < before || v.Seconds <= 0 {
			return 0 // the counters began anew
		}
		return float64(now-before) / v.Seconds
	}
	was := make(map[uint32]api.EndpointCounters, len(before.Endpoints))
	for i := range before.Endpoints {
		was[before.Endpoints[i].ID] = before.Endpoints[i].Counters
	}
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		c, o := e.Counters, was[e.ID]
		v.Endpoints = append(v.Endpoints, topRow{
			Name: e.Name, Container: e.Container, Bridge: e.Bridge, Address: e.Address, Flows: e.Flows,
			ReceiveBytes: per(c.ReceiveBytes, o.ReceiveBytes), ReceivePackets: per(c.ReceivePackets, o.ReceivePackets),
			TransmitBytes: per(c.TransmitBytes, o.TransmitBytes), TransmitPackets: per(c.TransmitPackets, o.TransmitPackets),
			Drops: per(c.ReceiveDropped+c.TransmitDropped, o.ReceiveDropped+o.TransmitDropped),
		})
	}
	dropped := make(map[string]uint64, len(before.Drops))
	for _, d := range before.Drops {
		dropped[d.Reason] = d.Packets
	}
	for _, d := range now.Drops {
		v.Drops = append(v.Drops, topDrop{d.Reason, d.Packets, per(d.Packets, dropped[d.Reason])})
	}
	return v
}

// topOrders are what rows may be sorted by. Each has a key of its own, which is its first letter.
func topOrders() []string {
	return []string{"bytes", "receive", "transmit", "packets", "drops", "flows", "name"}
}

// sort puts the largest first, and names in their order where rows are equal.
func (v *topView) sort(by string) {
	value := func(r *topRow) float64 {
		switch by {
		case "receive":
			return r.ReceiveBytes
		case "transmit":
			return r.TransmitBytes
		case "packets":
			return r.ReceivePackets + r.TransmitPackets
		case "drops":
			return r.Drops
		case "flows":
			return float64(r.Flows)
		case "name":
			return 0
		default:
			return r.ReceiveBytes + r.TransmitBytes
		}
	}
	slices.SortFunc(v.Endpoints, func(a, b topRow) int {
		return cmp.Or(cmp.Compare(value(&b), value(&a)), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(v.Drops, func(a, b topDrop) int { return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Packets, a.Packets)) })
}

// summary is the view in one line.
func (v *topView) summary() string {
	var rx, tx, drops float64
	for i := range v.Endpoints {
		rx += v.Endpoints[i].ReceiveBytes
		tx += v.Endpoints[i].TransmitBytes
	}
	worst := ""
	for _, d := range v.Drops {
		if drops += d.Rate; worst == "" && d.Rate > 0 {
			worst = " (" + d.Reason + ")"
		}
	}
	return fmt.Sprintf("ebpfnet %s: %d containers receive %s, send %s; dropped %s%s",
		v.Instance, len(v.Endpoints), perSecond(rx, "B"), perSecond(tx, "B"), perSecond(drops, ""), worst)
}

func (v *topView) table(w *tableWriter) {
	w.row("NAME", "BRIDGE", "ADDRESS", "RECEIVE", "TRANSMIT", "PACKETS IN", "PACKETS OUT", "FLOWS", "DROPS")
	for i := range v.Endpoints {
		r := &v.Endpoints[i]
		w.row(r.Name, r.Bridge, r.Address, perSecond(r.ReceiveBytes, "B"), perSecond(r.TransmitBytes, "B"),
			perSecond(r.ReceivePackets, ""), perSecond(r.TransmitPackets, ""), r.Flows, perSecond(r.Drops, ""))
	}
}

// perSecond writes a rate with three digits or so: 12.3 MB/s, 4.5k/s.
func perSecond(n float64, unit string) string {
	prefixes, i := []string{"", "k", "M", "G", "T"}, 0
	for n >= 999.5 && i < len(prefixes)-1 {
		n /= 1000
		i++
	}
	format := "%.0f"
	if n > 0 && n < 99.95 {
		format = "%.1f"
	}
	text := fmt.Sprintf(format, n)
	if unit != "" {
		text += " "
	}
	return text + prefixes[i] + unit + "/s"
}
