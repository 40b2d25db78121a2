package agent

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A bridge learns where a MAC address is from the frames that it forwards. Packets that the programs deliver never pass it, so what it has
// learnt ages, and the next frame for the address would be flooded to every container. A static entry per container says it for good;
// sticky, because a neighbour that sends with the address must not draw it to itself.
//
// Entries are told from other people's by being static and sticky on the veth of an endpoint, so nothing need be remembered.

// fdbEntry is an address on a bridge port.
type fdbEntry struct {
	port int // ifindex
	mac  [6]byte
}

// fdbTable is the kernel's forwarding table of bridges.
type fdbTable interface {
	List() ([]netlink.Neigh, error)
	Set(*netlink.Neigh) error
	Del(*netlink.Neigh) error
}

// kernelFDB is the table of a namespace: the process's own where the handle is the zero one.
type kernelFDB struct{ handle *netlink.Handle }

func (k kernelFDB) List() ([]netlink.Neigh, error) {
	for range 10 {
		l, err := k.handle.NeighList(0, unix.AF_BRIDGE)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return l, err
		}
	}
	return nil, netlink.ErrDumpInterrupted
}

func (k kernelFDB) Set(n *netlink.Neigh) error { return k.handle.NeighSet(n) }
func (k kernelFDB) Del(n *netlink.Neigh) error { return k.handle.NeighDel(n) }

const (
	// staticState is the state of an entry that does not age, localState that of an address of the bridge's own.
	staticState = netlink.NUD_NOARP
	localState  = netlink.NUD_PERMANENT
)

func (e fdbEntry) neigh() *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex:    e.port,
		Family:       unix.AF_BRIDGE,
		State:        staticState,
		Flags:        netlink.NTF_MASTER | netlink.NTF_STICKY,
		HardwareAddr: net.HardwareAddr(e.mac[:]),
	}
}

// syncFDB makes our entries on the ports be exactly want. An entry that someone else made static stands.
func syncFDB(table fdbTable, ports map[int]bool, want map[fdbEntry]bool) error {
	if len(ports) == 0 {
		return nil
	}
	found, err := table.List()
	if err != nil {
		return fmt.Errorf("list forwarding entries: %w", err)
	}
	settled := map[fdbEntry]bool{}
	var errs []error
	for _, n := range found {
		if !ports[n.LinkIndex] || len(n.HardwareAddr) != 6 || n.MasterIndex == 0 {
			continue
		}
		e := fdbEntry{port: n.LinkIndex, mac: [6]byte(n.HardwareAddr)}
		switch {
		case ours(n) && !want[e]:
			if err := table.Del(e.neigh()); err != nil && !isGone(err) {
				errs = append(errs, fmt.Errorf("delete forwarding entry %s: %w", n.HardwareAddr, err))
			}
		case ours(n), n.State&(staticState|localState) != 0:
			settled[e] = true
		}
	}
	for e := range want {
		if settled[e] {
			continue
		}
		if err := table.Set(e.neigh()); err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("add forwarding entry %s: %w", net.HardwareAddr(e.mac[:]), err))
		}
	}
	return errors.Join(errs...)
}

func ours(n netlink.Neigh) bool {
	return n.State&staticState != 0 && n.Flags&netlink.NTF_STICKY != 0
}

// isGone tells errors about a device, or an entry, that has just left from others.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}
