package agent

import (
	"net/netip"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
)

// noConntrack is a kernel that tracks nothing.
type noConntrack struct{ closed chan struct{} }

func (noConntrack) List() ([]conntrack.Entry, error) { return nil, nil }
func (noConntrack) Create(conntrack.Entry) error     { return nil }
func (noConntrack) Update(conntrack.Entry) error     { return nil }
func (noConntrack) Loosen(conntrack.Tuple) error     { return nil }
func (noConntrack) Delete(conntrack.Tuple) error     { return nil }

// Receive waits until it is closed.
func (n noConntrack) Receive() ([]conntrack.Event, error) {
	<-n.closed
	return nil, nil
}

func (n noConntrack) Close() {
	if n.closed != nil {
		close(n.closed)
	}
}

func noRoute(uint32, netip.Addr, netip.Addr) (uint32, netip.Addr, bool) {
	return 0, netip.Addr{}, false
}
