package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/florianl/go-tc"
	"golang.org/x/sys/unix"
)

func (dir direction) clsact() uint32 {
	if dir == ingress {
		return clsactIngress
	}
	return clsactEgress
}

// Names of our filters: ebpfnet_<program>@<instance>. Two instances may share a network namespace.
const filterPrefix = "ebpfnet_"

func (p Paths) filterName(program string) string { return filterPrefix + program + "@" + p.Instance }

// ourProgram gives the program that a filter runs, if the filter is this instance's.
func (p Paths) ourProgram(f tcObject) (string, bool) {
	program, instance := parseFilter(f)
	return program, instance == p.Instance
}

// parseFilter gives the program and the instance of a filter of this project; "" for others' filters.
func parseFilter(f tcObject) (program, instance string) {
	rest, ok := strings.CutPrefix(f.name, filterPrefix)
	if !ok || f.kind != "bpf" {
		return "", ""
	}
	program, instance, _ = strings.Cut(rest, "@")
	return program, instance
}

// attachClsact puts a program on a device's hook as a filter, and says whether anything changed. A filter of ours is replaced where it is:
// the kernel exchanges the program in one step.
func attachClsact(p Paths, ifindex int, dir direction, name string, prog *ebpf.Program) (bool, error) {
	if err := ensureClsact(p, ifindex); err != nil {
		return false, err
	}
	there, err := filters(ifindex, dir)
	if err != nil {
		return false, err
	}
	place, stale := choosePlace(p, there, p.filterName(name))
	if len(stale) == 0 && sameProgram(prog, ebpf.ProgramID(place.program)) {
		return false, nil
	}
	place.ifindex, place.parent, place.name = ifindex, dir.clsact(), p.filterName(name)
	err = withTC(func(t *tc.Tc) error {
		err := t.Filter().Replace(place.message(prog.FD()))
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("replace filter: the kernel lacks bpf filters (CONFIG_NET_CLS_BPF): %w", err)
		}
		if err != nil {
			return fmt.Errorf("replace filter: %w", err)
		}
		for _, f := range stale {
			if err := t.Filter().Delete(f.message(0)); err != nil {
				return fmt.Errorf("delete filter: %w", err)
			}
		}
		return nil
	})
	return err == nil, err
}

// choosePlace finds where the filter of that name is, or else where it may go: priority 1 and handle 1, or the next that is free. stale are
// filters of ours besides it: of another role that the device had, or doubles.
func choosePlace(p Paths, there []tcObject, name string) (place tcObject, stale []tcObject) {
	for _, f := range there {
		if _, ours := p.ourProgram(f); !ours {
			continue
		}
		if f.name == name && place.handle == 0 {
			place = f
		} else {
			stale = append(stale, f)
		}
	}
	if place.handle != 0 {
		return place, stale
	}
	all := htons(unix.ETH_P_ALL)
	for prio := uint16(1); ; prio++ {
		taken := make(map[uint32]bool)
		shared := true // filters of one priority are of one kind and one protocol
		for _, f := range there {
			if f.prio == prio {
				taken[f.handle] = true
				shared = shared && f.kind == "bpf" && f.proto == all
			}
		}
		if !shared && prio < math.MaxUint16 {
			continue
		}
		handle := uint32(1)
		for taken[handle] {
			handle++
		}
		return tcObject{prio: prio, proto: all, handle: handle, kind: "bpf"}, stale
	}
}

// message gives a filter as go-tc wants it. The kernel's Replace makes it, or changes the one with this priority and handle.
func (o tcObject) message(fd int) *tc.Object {
	m := &tc.Object{
		Msg: tc.Msg{
			Family: unix.AF_UNSPEC, Ifindex: uint32(o.ifindex), Handle: o.handle, Parent: o.parent,
			Info: uint32(o.prio)<<16 | uint32(o.proto),
		},
		Attribute: tc.Attribute{Kind: o.kind},
	}
	if fd > 0 {
		prog, direct := uint32(fd), uint32(tc.BpfActDirect)
		m.BPF = &tc.Bpf{FD: &prog, Name: &o.name, Flags: &direct}
	}
	return m
}

// ensureClsact gives a device the clsact qdisc, and remembers that it was us. The mark comes first: a qdisc without one would stay for
// ever.
func ensureClsact(p Paths, ifindex int) error {
	kind, err := clsactOf(ifindex)
	if err != nil {
		return err
	}
	switch kind {
	case hookClsact:
		return nil
	case "":
	default:
		return fmt.Errorf("its %s qdisc leaves no room for clsact: remove it with `tc qdisc del dev DEVICE %[1]s`", kind)
	}
	mark := p.qdiscMark(ifindex)
	if err := os.Mkdir(mark, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mark qdisc: %w", err)
	}
	err = withTC(func(t *tc.Tc) error { return t.Qdisc().Add(clsactMessage(ifindex)) })
	if err == nil {
		return nil
	}
	if rmErr := os.Remove(mark); rmErr != nil {
		return fmt.Errorf("unmark qdisc: %w", rmErr)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil // somebody was faster
	}
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("add clsact: the kernel lacks it (CONFIG_NET_SCH_INGRESS): %w", err)
	}
	return fmt.Errorf("add clsact: %w", err)
}

func clsactMessage(ifindex int) *tc.Object {
	return &tc.Object{
		Msg:       tc.Msg{Family: unix.AF_UNSPEC, Ifindex: uint32(ifindex), Handle: clsactHandle, Parent: clsactParent},
		Attribute: tc.Attribute{Kind: hookClsact},
	}
}

// removeClsact deletes our filters from a device, and its qdisc if we made that and nobody else has come to use it. A device that is gone
// leaves only its mark to remove.
func removeClsact(p Paths, ifindex int) error {
	var others []tcObject
	for _, dir := range []direction{ingress, egress} {
		there, err := filters(ifindex, dir)
		if err != nil {
			return err
		}
		for _, f := range there {
			if _, ours := p.ourProgram(f); !ours {
				others = append(others, f)
				continue
			}
			err := withTC(func(t *tc.Tc) error { return t.Filter().Delete(f.message(0)) })
			if err != nil && !gone(err) {
				return fmt.Errorf("delete filter %s: %w", f.name, err)
			}
		}
	}
	mark := p.qdiscMark(ifindex)
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if len(others) == 0 {
		if err := deleteClsact(ifindex); err != nil {
			return err
		}
	}
	for _, f := range others {
		// Another instance uses the qdisc: it is the one to remove it.
		if _, heir := parseFilter(f); heir != "" && os.Rename(mark, p.sibling(heir).qdiscMark(ifindex)) == nil {
			return nil
		}
	}
	if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmark qdisc: %w", err)
	}
	return nil
}

func deleteClsact(ifindex int) error {
	kind, err := clsactOf(ifindex)
	if err != nil && !gone(err) {
		return err
	}
	if kind != hookClsact {
		return nil
	}
	err = withTC(func(t *tc.Tc) error { return t.Qdisc().Delete(clsactMessage(ifindex)) })
	if err != nil && !gone(err) {
		return fmt.Errorf("delete clsact: %w", err)
	}
	return nil
}

// gone says whether an operation failed because what it was to remove is no longer there.
func gone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }

// withTC runs fn with a connection in the calling thread's network namespace.
func withTC(fn func(*tc.Tc) error) error {
	t, err := tc.Open(&tc.Config{})
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer t.Close()
	return fn(t)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
