package loader

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// The kinds of attachment.
const (
	hookTCX    = "tcx"
	hookClsact = "clsact"
)

// direction is which way a device's packets go, seen from the host's stack.
type direction int

const (
	ingress direction = iota
	egress
)

// programs names the datapath's programs of a direction. At most one of them is on a device.
func (dir direction) programs() []string {
	if dir == ingress {
		return []string{bpf.DatapathProgFromContainer, bpf.DatapathProgFromBridge, bpf.DatapathProgFromUplink, bpf.DatapathProgFromOverlay,
			bpf.DatapathProgFromPeer, bpf.DatapathProgToPeer}
	}
	return []string{bpf.DatapathProgToContainer, bpf.DatapathProgToBridge, bpf.DatapathProgToUplink, bpf.DatapathProgToOverlay}
}

// AttachVeth puts from_container and to_container on the host's end of a container's veth.
//
// AttachVeth and its like for other devices may be called again at any time, by this Datapath or a later one: a program of ours that is on
// the hook already is replaced in one step, or kept if it is the same. A device that does not exist (any more) gives unix.ENODEV.
func (d *Datapath) AttachVeth(ifindex int) error {
	return d.attach(ifindex, bpf.DatapathProgFromContainer, d.TC.FromContainer, bpf.DatapathProgToContainer, d.TC.ToContainer)
}

// AttachBridge puts from_bridge and to_bridge on a bridge.
func (d *Datapath) AttachBridge(ifindex int) error {
	return d.attach(ifindex, bpf.DatapathProgFromBridge, d.TC.FromBridge, bpf.DatapathProgToBridge, d.TC.ToBridge)
}

// AttachUplink puts from_uplink and to_uplink on a device that leads outside.
func (d *Datapath) AttachUplink(ifindex int) error {
	return d.attach(ifindex, bpf.DatapathProgFromUplink, d.TC.FromUplink, bpf.DatapathProgToUplink, d.TC.ToUplink)
}

// AttachOverlay puts from_overlay and to_overlay on the device of the tunnel to other hosts.
func (d *Datapath) AttachOverlay(ifindex int) error {
	return d.attachLate(ifindex, bpf.DatapathProgFromOverlay)
}

// AttachNear puts from_peer and to_overlay on the near end of the pair of devices that packets for datagrams go through.
func (d *Datapath) AttachNear(ifindex int) error {
	return d.attachLate(ifindex, bpf.DatapathProgFromPeer)
}

// AttachFar puts to_peer on the far end of that pair, and to_overlay, so that the stack sends nothing there by itself.
func (d *Datapath) AttachFar(ifindex int) error {
	return d.attachLate(ifindex, bpf.DatapathProgToPeer)
}

// attachLate puts a program of late and to_overlay on a device.
func (d *Datapath) attachLate(ifindex int, from string) error {
	fromProg, err := d.need(from)
	if err != nil {
		return err
	}
	toProg, err := d.need(bpf.DatapathProgToOverlay)
	if err != nil {
		return err
	}
	return d.attach(ifindex, from, fromProg, bpf.DatapathProgToOverlay, toProg)
}

func (d *Datapath) attach(ifindex int, from string, fromProg *ebpf.Program, to string, toProg *ebpf.Program) error {
	changed := false
	for _, h := range []struct {
		dir  direction
		name string
		prog *ebpf.Program
	}{{ingress, from, fromProg}, {egress, to, toProg}} {
		put := attachClsact
		if d.features.TCX {
			put = attachTCX
		}
		c, err := put(d.paths, ifindex, h.dir, h.name, h.prog)
		if err != nil {
			return fmt.Errorf("attach %s to device %d: %w", h.name, ifindex, explain(err))
		}
		changed = changed || c
	}
	if !changed {
		return nil
	}
	// Both kinds at once would show every packet to two programs. The old one goes last, so that no packet meets none.
	remove := removeTCX
	if d.features.TCX {
		remove = removeClsact
	}
	if err := remove(d.paths, ifindex); err != nil {
		return fmt.Errorf("attach to device %d: take away the other kind: %w", ifindex, err)
	}
	return nil
}

// Detach takes the programs of this instance from a device, and what else was made for them. A device that is gone, or has none, is fine.
func (d *Datapath) Detach(ifindex int) error {
	if err := removeTCX(d.paths, ifindex); err != nil {
		return fmt.Errorf("detach device %d: %w", ifindex, err)
	}
	if err := removeClsact(d.paths, ifindex); err != nil {
		return fmt.Errorf("detach device %d: %w", ifindex, err)
	}
	return nil
}
