package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func (dir direction) tcx() ebpf.AttachType {
	if dir == ingress {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}

// attachTCX puts a program on a device's hook by a pinned link, and says whether anything changed. A new link goes behind what others have
// attached: what they drop stays dropped.
func attachTCX(p Paths, ifindex int, dir direction, name string, prog *ebpf.Program) (bool, error) {
	pin := p.tcxPin(ifindex, name)
	state, err := updateTCX(pin, ifindex, dir, prog)
	if err != nil || state == linkSame {
		return false, err
	}
	if state == linkNone {
		var l link.Link
		err := expedited(func() (err error) {
			l, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: dir.tcx(), Anchor: link.Tail()})
			return err
		})
		if err != nil {
			return false, err
		}
		defer l.Close()
		if err := l.Pin(pin); err != nil {
			return false, fmt.Errorf("pin link: %w", err)
		}
	}
	// The device may have had another role.
	for _, other := range dir.programs() {
		if other == name {
			continue
		}
		if err := removeLink(p.tcxPin(ifindex, other)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// linkState is what became of a pinned link that was to get a program.
type linkState int

const (
	linkNone    linkState = iota // there is none, or no longer
	linkSame                     // it had the program
	linkUpdated                  // it has it now
)

// updateTCX puts the program into the pinned link, if there is one and its device still exists. A link whose device is gone is unpinned:
// the kernel refuses to update it (ENOLINK), and a new device may have taken the number.
func updateTCX(pin string, ifindex int, dir direction, prog *ebpf.Program) (linkState, error) {
	return updateLink(pin, prog, func(info *link.Info) (bool, error) { return onHook(info.ID, ifindex, dir) })
}

// updateLink puts the program into the pinned link, if there is one that is in place. One that is not is unpinned.
func updateLink(pin string, prog *ebpf.Program, inPlace func(*link.Info) (bool, error)) (linkState, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return linkNone, nil
	}
	if err != nil {
		return linkNone, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return linkNone, fmt.Errorf("inspect link: %w", err)
	}
	on, err := inPlace(info)
	if err != nil {
		return linkNone, err
	}
	if on {
		if sameProgram(prog, info.Program) {
			return linkSame, nil
		}
		err = l.Update(prog)
		if err == nil {
			return linkUpdated, nil
		}
		if !errors.Is(err, unix.ENOLINK) {
			return linkNone, err
		}
	}
	if err := l.Unpin(); err != nil {
		return linkNone, fmt.Errorf("unpin dead link: %w", err)
	}
	return linkNone, nil
}

// onHook says whether a link is on the hook of this device in this network namespace: the number alone could be another device's.
func onHook(id link.ID, ifindex int, dir direction) (bool, error) {
	there, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: dir.tcx()})
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, p := range there.Programs {
		if got, ok := p.LinkID(); ok && got == id {
			return true, nil
		}
	}
	return false, nil
}

func sameProgram(prog *ebpf.Program, id ebpf.ProgramID) bool {
	info, err := prog.Info()
	if err != nil {
		return false
	}
	own, ok := info.ID()
	return ok && own == id
}

// removeTCX takes our links from a device.
func removeTCX(p Paths, ifindex int) error {
	for _, dir := range []direction{ingress, egress} {
		for _, name := range dir.programs() {
			if err := removeLink(p.tcxPin(ifindex, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// removeLink detaches a pinned link at once, where unpinning alone would leave that to the kernel's leisure, and unpins it. A pin that is
// not there is fine.
func removeLink(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pin: %w", err)
	}
	defer l.Close()
	// A device or cgroup that is gone has taken the attachment along.
	if err := expedited(l.Detach); err != nil && !errors.Is(err, link.ErrNotSupported) && !errors.Is(err, unix.ENOLINK) {
		return err
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin link: %w", err)
	}
	return nil
}
