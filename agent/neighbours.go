package agent

import (
	"net/netip"

	"github.com/ebpfnet/ebpfnet/policy"
)

// neighbours are the other hosts that are reached without a router. The kernel is asked about each once, and again when its routes change:
// there may be ten thousand, of which one is new. The zero value knows none.
type neighbours struct {
	mark    uint64              // of the routes by which it was answered
	asked   map[netip.Addr]bool // about whom, and whether they are near
	devices map[netip.Addr]int  // the ifindex by which each near one is reached
}

// find writes into what Compile reads which hosts are near.
func (n *neighbours) find(h overlayHost, v *policy.Overlay) error {
	mark, err := h.RoutesMark() // before the questions: a change in between is seen next time
	if err != nil {
		return err
	}
	known := n.asked
	if mark != n.mark {
		known = nil
	}
	// What Compile was given before is not changed.
	asked := make(map[netip.Addr]bool, len(v.Peers))
	var fresh []netip.Addr
	for _, p := range v.Peers {
		near, answered := known[p.Public]
		if !answered {
			fresh = append(fresh, p.Public)
		}
		asked[p.Public] = near
	}
	found, err := h.Near(fresh)
	if err != nil {
		return err
	}
	devices := make(map[netip.Addr]int)
	for host, near := range asked {
		if near {
			devices[host] = n.devices[host]
		}
	}
	for host, device := range found {
		asked[host], devices[host] = true, device
	}
	*n = neighbours{mark: mark, asked: asked, devices: devices}
	v.Near = asked
	return nil
}
