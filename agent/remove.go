package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/policy"
)

// release takes everything off and forgets what was asked for. What cannot be undone stays in the state file, so that it can be tried
// again.
func (a *Agent) release() error {
	bridges := bridgeNames(a.state)
	ports := a.ports
	h := a.host
	leaving := a.tryHandOver(overRules(a.settled.State))
	h.RemoveDatapath = func() error {
		defer leaving.finish()
		return a.host.RemoveDatapath()
	}
	a.releasePort()
	a.dropPrepared()
	err := undo(h, a.state, ports, bridges, a.save)
	a.watchWith(nil)
	a.tables.Lock()
	if a.dp != nil {
		a.dp.Close()
	}
	a.dp = nil
	a.tables.Unlock()
	a.devices, a.ports, a.entries, a.sockets = nil, nil, nil, false
	if err != nil {
		return err
	}
	a.state = State{}
	a.settled, a.ids = policy.Result{}, nil
	for key := range a.problems {
		if key != "metrics" {
			delete(a.problems, key)
		}
	}
	a.sweep.Store(nil)
	a.publishView()
	return errors.Join(a.forgetDocker(), RemoveState(a.o.Paths.State))
}

// undo takes the datapath away, then the forwarding entries of the ports and of the bridges' ports, then the sysctls. It goes on after an
// error; what is left to undo then, keep puts on disk.
func undo(h Host, s State, ports map[int]bool, bridges []string, keep func(State) error) error {
	errs := []error{h.RemoveDatapath(), h.RemoveOverlay()}
	all, err := h.BridgePorts(bridges)
	errs = append(errs, err)
	for p := range ports {
		if all == nil {
			all = map[int]bool{}
		}
		all[p] = true
	}
	errs = append(errs, syncFDB(h.FDB, all, nil))
	var left []SysctlRecord
	for _, r := range s.Sysctls {
		if err := h.Sysctls.restore(r); err != nil {
			errs = append(errs, err)
			left = append(left, r)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, keep(State{Sysctls: left}))
	}
	return nil
}

// bridgeNames are the bridges that the state knows of.
func bridgeNames(s State) []string {
	var names []string
	for _, r := range s.Sysctls {
		names = append(names, r.Bridge)
	}
	for _, b := range s.Intent.Bridges {
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RemoveAll is `detach --all` without an agent: it takes everything of an instance away, whatever a crash left of it, and fails where an
// agent runs.
func RemoveAll(p loader.Paths) error {
	lock, err := AcquireLock(p.Lock)
	if err != nil {
		return err
	}
	defer removeEmpty(p.Run)
	defer lock.Release()
	var errs []error
	s, err := LoadState(p.State)
	if err != nil {
		// Nothing to go by: the kernel's own record of what is attached has to do.
		errs = append(errs, err)
	}
	ports := map[int]bool{}
	hooks, err := loader.Attached(p)
	errs = append(errs, err)
	for ifindex, h := range hooks {
		if slices.Contains(h.Programs, bpf.DatapathProgFromContainer) {
			ports[ifindex] = true
		}
	}
	h := Host{
		RemoveDatapath: func() error { return loader.RemoveAll(p) },
		RemoveOverlay:  func() error { return removeOverlay(tunnel.Kernel{}, p) },
		BridgePorts:    bridgePorts,
		FDB:            kernelFDB{&netlink.Handle{}},
	}
	finish := handOverPinned(p)
	h.RemoveDatapath = func() error {
		defer finish()
		return loader.RemoveAll(p)
	}
	keep := func(left State) error { return SaveState(p.State, left) }
	if err := undo(h, s, ports, bridgeNames(s), keep); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, removeFile(p.Docker), forgetNetwork(p), RemoveState(p.State))
	os.Remove(p.Socket)
	removeLog(p.Log)
	return errors.Join(errs...)
}

// bridgePorts gives the ifindexes of the ports of bridges. A bridge that is gone has none.
func bridgePorts(bridges []string) (map[int]bool, error) {
	if len(bridges) == 0 {
		return nil, nil
	}
	masters := map[int]bool{}
	for _, name := range bridges {
		if i, err := net.InterfaceByName(name); err == nil {
			masters[i.Index] = true
		}
	}
	var links []netlink.Link
	var err error
	for range 10 {
		if links, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ports := map[int]bool{}
	for _, l := range links {
		if masters[l.Attrs().MasterIndex] {
			ports[l.Attrs().Index] = true
		}
	}
	return ports, nil
}

func deviceExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

func deviceName(ifindex int) (string, error) {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return "", err
	}
	return i.Name, nil
}
