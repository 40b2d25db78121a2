package agent

import (
	"maps"
	"net/netip"
	"time"

	"github.com/ebpfnet/ebpfnet/policy"
)

// pathsEvery is how often the kernel is asked what it has learnt of the ways to the other hosts: it tells nobody by itself.
const pathsEvery = time.Second

// pathsChanged tells whether the kernel knows another MTU of the way to a host than it did. The programs ask for it themselves; the routes of
// what the kernel carries have to be told.
func (a *Agent) pathsChanged() bool {
	if !a.overlay.device || len(a.settled.Peers) == 0 {
		return false
	}
	learnt, err := a.host.Overlay.LearntMTUs()
	a.setProblem("path mtu", err)
	if err != nil || maps.Equal(learnt, a.overlay.learnt) {
		return false
	}
	a.overlay.learnt = learnt
	return true
}

// pathMTU is the largest packet that the tunnel takes to a host, where that is less than to others; else 0.
func (a *Agent) pathMTU(v *policy.Overlay, host netip.Addr) int {
	learnt, less := a.overlay.learnt[host]
	overhead := a.overlay.public.MTU - v.MTU
	if !less || learnt-overhead >= v.MTU || learnt <= overhead {
		return 0
	}
	return learnt - overhead
}
