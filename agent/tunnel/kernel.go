package tunnel

import "net/netip"

// Kernel is this package's functions as methods, for whoever wants to put others in their place.
type Kernel struct{}

// FindPublic is the function of this name.
func (Kernel) FindPublic(addr netip.Addr, device string) (Public, error) {
	return FindPublic(addr, device)
}

// Near is the function of this name.
func (Kernel) Near(hosts []netip.Addr) (map[netip.Addr]int, error) { return Near(hosts) }

// Ensure is Device.Ensure.
func (Kernel) Ensure(d Device) (ifindex int, done string, err error) { return d.Ensure() }

// Remove is the function of this name.
func (Kernel) Remove(device string) error { return Remove(device) }

// SyncRoutes is the function of this name.
func (Kernel) SyncRoutes(want []Route) error { return SyncRoutes(want) }
