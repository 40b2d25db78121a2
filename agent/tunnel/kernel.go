package tunnel

import (
	"io"
	"net/netip"
)

// Kernel is this package's functions as methods, for whoever wants to put others in their place.
type Kernel struct{}

// FindPublic is the function of this name.
func (Kernel) FindPublic(addr netip.Addr, device string) (Public, error) {
	return FindPublic(addr, device)
}

// Near is the function of this name.
func (Kernel) Near(hosts []netip.Addr) (map[netip.Addr]int, error) { return Near(hosts) }

// RoutesMark is the function of this name.
func (Kernel) RoutesMark() (uint64, error) { return RoutesMark() }

// Ensure is Device.Ensure.
func (Kernel) Ensure(d Device) (ifindex int, done string, err error) { return d.Ensure() }

// EnsurePair is Device.EnsurePair.
func (Kernel) EnsurePair(d Device) (near, far int, done string, err error) { return d.EnsurePair() }

// LearntMTUs is the function of this name.
func (Kernel) LearntMTUs() (map[netip.Addr]int, error) { return LearntMTUs() }

// Reserve is the function of this name.
func (Kernel) Reserve(at netip.AddrPort) (io.Closer, error) { return Reserve(at) }

// Remove is the function of this name.
func (Kernel) Remove(device string) error { return Remove(device) }

// SyncRoutes is the function of this name.
func (Kernel) SyncRoutes(want []Route) error { return SyncRoutes(want) }
