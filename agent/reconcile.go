package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	tables "github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// reconcile looks at the host and makes the datapath agree with it. A full one also believes nothing of what the agent remembers: other
// tools may have removed programs, forwarding entries or map entries.
func (a *Agent) reconcile(ctx context.Context, full bool) error {
	start := time.Now()
	err := a.lookAndApply(ctx, full)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.host.ObserveReconcile(time.Since(start), err)
	a.setProblem("reconcile", err)
	if err != nil {
		a.log.Error("reconcile", "error", err)
	}
	a.publishView()
	return err
}

func (a *Agent) lookAndApply(ctx context.Context, full bool) error {
	// What is wrong with the rules is among the problems; those of before are put to work.
	_ = a.loadPolicies(ctx)
	o, err := a.observe(ctx)
	if err != nil {
		return err
	}
	if torn := a.host.Observer.Torn(); torn && a.dp != nil {
		// It may have been our own doing, with a container that is gone. Who is to say.
		if err := a.believeKernel(); err != nil {
			return err
		}
	}
	return a.apply(o, a.state.Intent, full)
}

func (a *Agent) observe(ctx context.Context) (policy.Observed, error) {
	o, err := a.host.Observer.Observe(ctx)
	if err != nil {
		return o, fmt.Errorf("look at the host: %w", err)
	}
	a.quiet(&o)
	a.problems["observe"] = a.host.Observer.Problems()
	a.problems["forwarding"] = a.forwarding()
	err = a.lookOverlay(ctx, &o)
	a.setProblem("overlay", err)
	a.problems["overlay"] = append(a.problems["overlay"], a.overlayProblems()...)
	return o, nil
}

// forwarding is what stands in the way of routing: nothing, or that it is off.
func (a *Agent) forwarding() []string {
	on, err := a.host.Forwards()
	switch {
	case err != nil:
		return []string{err.Error()}
	case !on:
		return []string{"net.ipv4.ip_forward is 0, so no container reaches anything beyond the host: `sysctl -w net.ipv4.ip_forward=1`"}
	default:
		return nil
	}
}

// deviceError is a failure with one device; the others are served all the same.
type deviceError struct {
	name string
	err  error
}

func (e *deviceError) Error() string { return fmt.Sprintf("device %s: %v", e.name, e.err) }
func (e *deviceError) Unwrap() error { return e.err }

// partialError says that the datapath agrees with what is wanted but for some things.
type partialError struct{ error }

func (e *partialError) Unwrap() error { return e.error }

// apply makes the datapath agree with what is there and what is wanted, as far as a *partialError does not say otherwise. Programs are
// attached before the maps tell of their devices, and taken off before what they need goes: a program that finds nothing leaves packets
// alone, while a flow that one hook begins needs its answers to meet the others. After an error it may be called again.
func (a *Agent) apply(o policy.Observed, in policy.Intent, full bool) error {
	if a.dp == nil && !wantsDatapath(in) {
		return nil
	}
	if err := a.ensureDatapath(); err != nil {
		return err
	}
	var errs []error
	if err := a.ensureTunnel(o.Overlay); err != nil {
		// Without a way to the other hosts the rest works.
		errs = append(errs, err)
	}
	r := policy.Compile(o, in, a.ids)
	want := wantedDevices(r)
	if o.Overlay != nil && o.Overlay.Device != 0 {
		want[o.Overlay.Device] = device{a.overlay.name, overlayDevice}
		if o.Overlay.Far != 0 {
			want[o.Overlay.Device] = device{a.overlay.name, nearDevice}
			want[o.Overlay.Far] = device{tunnel.FarName(a.overlay.name), farDevice}
		}
	}
	if full {
		errs = append(errs, a.believeKernel())
	}
	coming, going := changedHands(a.settled.State, r.State)
	leaving := a.tryHandOver(going)
	errs = append(errs, a.detachUnwanted(want, len(r.State.Bridges) > 0))
	leaving.finish()
	errs = append(errs, a.attachWanted(a.unheardOf(want)), a.stopOffload(r))
	if err := a.takeOver(coming, r); err != nil {
		errs = append(errs, err)
	}
	if err := a.writeTables(r, full); isFull(err) {
		// What fits is written. The rest is carried by the kernel's own path, with programs on its devices or without.
		errs = append(errs, err)
	} else if err != nil {
		return err
	}
	errs = append(errs, a.attachWanted(want), a.forgetNative(r))
	a.carry(r)
	if len(r.State.Bridges) > 0 && (!a.sockets || full) {
		if err := a.dp.AttachSockets(); err != nil {
			errs = append(errs, err)
		} else {
			a.sockets = true
		}
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, a.dp.Settle())
	}
	errs = append(errs, a.syncForwarding(r, full), a.syncSysctls(r), a.syncRoutes(o.Overlay, r), a.rememberDocker(o))
	a.logChanges(a.settled, r)
	a.settled = r
	a.problems["policy"] = r.Problems
	a.problems["datapath"] = append(a.dp.Notes(), a.dp.Problems()...)
	a.publishView()
	if err := errors.Join(errs...); err != nil {
		return &partialError{err}
	}
	return nil
}

func wantsDatapath(in policy.Intent) bool { return len(in.Bridges) > 0 || in.All }

// ensureDatapath loads programs and maps where they are not, and goes on from what is in them.
func (a *Agent) ensureDatapath() error {
	if a.dp != nil {
		return nil
	}
	dp, err := a.loadDatapath()
	if err != nil {
		return err
	}
	have, err := dp.Load()
	if err != nil {
		dp.Close()
		return fmt.Errorf("read maps: %w", err)
	}
	a.ids = policy.NewIdentities(have, dp.Slots())
	a.devices, a.ports, a.entries, a.sockets = map[int]device{}, map[int]bool{}, nil, false
	a.settled.State = have
	a.tables.Lock()
	a.dp = dp
	a.tables.Unlock()
	a.watchWith(dp)
	a.log.Info("datapath loaded", "hook", dp.Hook(), "bridges", len(have.Bridges), "endpoints", len(have.Veths))
	return a.believeKernel()
}

// believeKernel replaces what the agent remembers of its attachments by what the kernel says.
func (a *Agent) believeKernel() error {
	hooks, err := a.dp.Attached()
	if err != nil {
		return err
	}
	maps.DeleteFunc(a.devices, func(ifindex int, d device) bool {
		h, ok := hooks[ifindex]
		if !ok || len(h.Programs) != 2 || h.Gone {
			a.log.Warn("programs are gone", "device", d.name, "ifindex", ifindex)
			return true
		}
		return false
	})
	for ifindex := range hooks {
		if _, known := a.devices[ifindex]; !known {
			a.devices[ifindex] = device{}
		}
	}
	a.entries = nil
	return nil
}

// wantedDevices are those that the result puts programs on. Without a bridge nothing is to be carried anywhere.
func wantedDevices(r policy.Result) map[int]device {
	want := map[int]device{}
	for _, u := range r.Uplinks {
		if u.Attached && len(r.State.Bridges) > 0 {
			want[u.Index] = device{u.Name, uplinkDevice}
		}
	}
	for _, b := range r.Bridges {
		if b.Attached {
			want[b.Index] = device{b.Name, bridgeDevice}
		}
	}
	for _, e := range r.Endpoints {
		want[e.Index] = device{e.Veth, vethDevice}
	}
	return want
}

func (a *Agent) detachUnwanted(want map[int]device, sockets bool) error {
	var errs []error
	for ifindex, d := range a.devices {
		if _, wanted := want[ifindex]; wanted {
			continue
		}
		if err := a.dp.Detach(ifindex); err != nil {
			errs = append(errs, &deviceError{d.name, err})
			continue
		}
		delete(a.devices, ifindex)
		a.log.Debug("detached", "device", d.name, "ifindex", ifindex)
	}
	if !sockets {
		if err := a.dp.DetachSockets(); err != nil {
			errs = append(errs, err)
		} else {
			a.sockets = false
		}
	}
	return errors.Join(errs...)
}

// unheardOf leaves out the devices whose numbers are in the maps: those may be of devices that are gone, and a program would take the new
// one for the old.
func (a *Agent) unheardOf(want map[int]device) map[int]device {
	s := a.settled.State
	fresh := maps.Clone(want)
	maps.DeleteFunc(fresh, func(ifindex int, _ device) bool {
		i := uint32(ifindex)
		_, veth := s.Veths[i]
		_, bridge := s.Bridges[i]
		_, uplink := s.Uplinks[i]
		return veth || bridge || uplink
	})
	return fresh
}

// attachWanted puts programs on devices that have none yet.
func (a *Agent) attachWanted(want map[int]device) error {
	var errs []error
	for _, k := range []struct {
		kind   deviceKind
		attach func(int) error
	}{{vethDevice, a.dp.AttachVeth}, {bridgeDevice, a.dp.AttachBridge}, {uplinkDevice, a.dp.AttachUplink}, {overlayDevice, a.dp.AttachOverlay},
		{nearDevice, a.dp.AttachNear}, {farDevice, a.dp.AttachFar}} {
		for _, ifindex := range slices.Sorted(maps.Keys(want)) {
			d := want[ifindex]
			if d.kind != k.kind || a.devices[ifindex] == d {
				continue
			}
			err := k.attach(ifindex)
			switch {
			case errors.Is(err, unix.ENODEV):
				// It has left since it was seen; its leaving wakes the agent again.
				delete(a.devices, ifindex)
			case err != nil:
				errs = append(errs, &deviceError{d.name, err})
			default:
				a.devices[ifindex] = d
				a.log.Debug("attached", "device", d.name, "ifindex", ifindex)
			}
		}
	}
	return errors.Join(errs...)
}

// writeTables writes the maps. A slot is cleared before anyone can count into it, and what a gone endpoint's flows would still do is
// ended as soon as no new ones can come to be.
func (a *Agent) writeTables(r policy.Result, verify bool) error {
	t := r.Turnover
	for _, i := range t.Added {
		if err := a.dp.ClearEndpointSlot(i.Slot); err != nil {
			return fmt.Errorf("clear counters: %w", err)
		}
	}
	for _, i := range t.AddedBridge {
		if err := a.dp.ClearBridgeSlot(i.Slot); err != nil {
			return fmt.Errorf("clear counters: %w", err)
		}
	}
	for _, slot := range t.AddedPorts {
		if err := a.dp.ClearPublishSlot(slot); err != nil {
			return fmt.Errorf("clear counters: %w", err)
		}
	}
	if err := a.dp.KeepPeers(r.State.PeerHosts); err != nil {
		return err
	}
	err := a.dp.Sync(r.State, verify)
	if err != nil {
		err = fmt.Errorf("write maps: %w", err)
	}
	if err != nil && !isFull(err) {
		return err
	}
	if err := a.purge(t.Gone); err != nil {
		return err
	}
	if err := a.endSockets(r); err != nil {
		a.log.Warn("sockets of the host towards a port that leads elsewhere", "error", err)
	}
	a.ids.Settle(t)
	return err
}

func isFull(err error) bool {
	var full *tables.FullError
	return errors.As(err, &full)
}

// syncForwarding keeps a forwarding entry for each endpoint's address.
func (a *Agent) syncForwarding(r policy.Result, full bool) error {
	want, ports := map[fdbEntry]bool{}, map[int]bool{}
	for _, e := range r.Endpoints {
		ports[e.Index] = true
		if len(e.MAC) == 6 {
			want[fdbEntry{e.Index, [6]byte(e.MAC)}] = true
		}
	}
	if !full && a.entries != nil && maps.Equal(want, a.entries) {
		return nil
	}
	// A port that is no endpoint any more may still be a port.
	for p := range a.ports {
		if !ports[p] {
			ports[p] = true
		}
	}
	if err := syncFDB(a.host.FDB, ports, want); err != nil {
		a.entries = nil
		return err
	}
	a.entries = want
	a.ports = map[int]bool{}
	for e := range want {
		a.ports[e.port] = true
	}
	return nil
}

func (a *Agent) syncSysctls(r policy.Result) error {
	attached := map[string]bool{}
	var errs []error
	for _, b := range r.Bridges {
		// Where the host's own rules decide they also lead its sockets.
		if !b.Attached || b.Mode == modeOffload {
			continue
		}
		attached[b.Name] = true
		for _, name := range []string{routeLocalnet, arpAnnounce} {
			records, err := a.host.Sysctls.ensure(a.state.Sysctls, b.Name, b.Index, name, "1", a.rememberSysctls)
			if err == nil {
				a.state.Sysctls = records
			} else if !errors.Is(err, unix.ENOENT) { // a bridge may have left since
				errs = append(errs, err)
			}
		}
	}
	kept := slices.Clone(a.state.Sysctls)
	kept = slices.DeleteFunc(kept, func(s SysctlRecord) bool {
		if attached[s.Bridge] {
			return false
		}
		err := a.host.Sysctls.restore(s)
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	})
	if len(kept) != len(a.state.Sysctls) {
		errs = append(errs, a.rememberSysctls(kept))
	}
	return errors.Join(errs...)
}

// rememberSysctls puts the records on disk before what they tell of is changed.
func (a *Agent) rememberSysctls(records []SysctlRecord) error {
	next := a.state
	next.Sysctls = records
	return a.save(next)
}

// save makes next the state, on disk first.
func (a *Agent) save(next State) error {
	if err := SaveState(a.o.Paths.State, next); err != nil {
		return err
	}
	a.state = next
	return nil
}

func (a *Agent) setProblem(key string, err error) {
	delete(a.problems, key)
	if err != nil {
		a.problems[key] = oneLine(err)
	}
}

// oneLine gives each of several joined errors a line.
func oneLine(err error) []string {
	if partial, ok := err.(*partialError); ok {
		err = partial.error
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, oneLine(e)...)
		}
		return all
	}
	return []string{err.Error()}
}
