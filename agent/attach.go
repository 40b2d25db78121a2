package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/policy"
)

// The modes that a bridge can be attached in.
const (
	modeAuto    = policy.ModeAuto
	modeNative  = policy.ModeNative
	modeOffload = policy.ModeOffload
)

// usageError is a request that makes no sense whatever the host looks like.
type usageError struct{ error }

// attach runs in the loop. An agent that was started for a request that fails has nothing to stay for.
func (a *Agent) attach(ctx context.Context, r api.AttachRequest) (api.Started, error) {
	started, err := a.tryAttach(ctx, r)
	if err != nil && a.o.Background && a.dp == nil && !wantsDatapath(a.state.Intent) && len(a.state.Intent.Publish) == 0 {
		a.quit = true
	}
	return started, err
}

func (a *Agent) tryAttach(ctx context.Context, r api.AttachRequest) (api.Started, error) {
	if err := checkAttachRequest(r); err != nil {
		return api.Started{}, err
	}
	a.overlay.left = false
	a.host.Observer.ForgetRules()
	o, err := a.observe(ctx)
	if err != nil {
		return api.Started{}, err
	}
	if err := a.checkDevices(o, r); err != nil {
		return api.Started{}, err
	}
	if r.Mode == modeAuto {
		if err := checkRules(o, r); err != nil {
			return api.Started{}, err
		}
	}
	if err := a.change(ctx, o, withAttach(a.state.Intent, r), func(p policy.Result) error { return checkAttached(p, r) }); err != nil {
		return api.Started{}, err
	}
	started := api.Started{At: time.Now()}
	for _, b := range a.settled.Bridges {
		switch {
		case !r.All && !slices.Contains(r.Bridges, b.Name):
		case b.Attached:
			started.Attached = append(started.Attached, b.Name)
		default:
			started.Waiting = append(started.Waiting, b.Name)
		}
	}
	a.log.Info("attached", "bridges", started.Attached, "waiting", started.Waiting, "mode", r.Mode)
	return started, nil
}

func checkAttachRequest(r api.AttachRequest) error {
	switch {
	case r.All == (len(r.Bridges) > 0):
		return usageError{errors.New("attach either bridges by name, or all")}
	case r.Mode != modeAuto && r.Mode != modeNative && r.Mode != modeOffload:
		return usageError{fmt.Errorf("mode %q: it is auto, native or offload", r.Mode)}
	}
	return nil
}

// checkDevices refuses names that mean nothing here, unless they are to be waited for.
func (a *Agent) checkDevices(o policy.Observed, r api.AttachRequest) error {
	if r.All && !r.Wait && len(o.Networks) == 0 && !a.host.Observer.Docker() {
		return errors.New("Docker does not answer, and --all means its networks: start dockerd, see --docker-host, or name bridges with --bridge")
	}
	for _, name := range r.Bridges {
		i := slices.IndexFunc(o.Bridges, func(b policy.Bridge) bool { return b.Name == name })
		switch {
		case i >= 0 && len(o.Bridges[i].Addrs) == 0 && !r.Wait:
			return fmt.Errorf("bridge %s has no IPv4 address: give it one (`ip address add ADDRESS/LENGTH dev %[1]s`)", name)
		case i >= 0:
		case a.host.DeviceExists(name):
			return fmt.Errorf("%s is not a bridge: %s", name, bridgesHere(o))
		case !r.Wait:
			return fmt.Errorf("no bridge %s: %s, and --wait waits for one that is to come", name, bridgesHere(o))
		}
	}
	for _, name := range r.Uplinks {
		i := slices.IndexFunc(o.Uplinks, func(u policy.Uplink) bool { return u.Name == name })
		switch {
		case i >= 0 && !o.Uplinks[i].Ethernet:
			return fmt.Errorf("uplink %s has no link-layer header (it is a tunnel): not supported yet", name)
		case i >= 0:
		case a.host.DeviceExists(name):
			return fmt.Errorf("%s cannot be an uplink: %s", name, uplinksHere(o))
		case !r.Wait:
			return fmt.Errorf("no device %s: %s", name, uplinksHere(o))
		}
	}
	return nil
}

func bridgesHere(o policy.Observed) string {
	var names []string
	for _, b := range o.Bridges {
		names = append(names, b.Name)
	}
	if len(names) == 0 {
		return "there are no bridges here"
	}
	slices.Sort(names)
	return "the bridges here are " + enumerate(names)
}

func uplinksHere(o policy.Observed) string {
	var names []string
	for _, u := range o.Uplinks {
		if !u.Bridge || u.DefaultRoute {
			names = append(names, u.Name)
		}
	}
	if len(names) == 0 {
		return "no device here leads outside"
	}
	slices.Sort(names)
	return "the devices here are " + enumerate(names)
}

// enumerate joins names for one line, and cuts a long list.
func enumerate(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// checkRules refuses to bypass netfilter rules that someone other than Docker made, where Docker's do not translate for a bridge: then nobody
// would in our place, so those rules cannot be left to decide.
func checkRules(o policy.Observed, r api.AttachRequest) error {
	if o.RulesUnknown != "" {
		return fmt.Errorf("look for netfilter rules that would be bypassed: %s: `--mode native` attaches without looking", o.RulesUnknown)
	}
	if len(o.ForeignRules) == 0 {
		return nil
	}
	for _, b := range o.Bridges {
		wanted := slices.Contains(r.Bridges, b.Name) ||
			r.All && slices.ContainsFunc(o.Networks, func(n policy.Network) bool { return n.Bridge == b.Name })
		if wanted && !b.DockerRules {
			return fmt.Errorf("attaching bridge %s would bypass rules that are not Docker's own (%s): remove them, or attach with "+
				"`--mode native` to do without them, or with `--mode offload` where they translate too", b.Name, policy.DescribeRules(o.ForeignRules))
		}
	}
	return nil
}

// withAttach adds what a request asks for to an intent.
func withAttach(in policy.Intent, r api.AttachRequest) policy.Intent {
	if r.All {
		in.All, in.AllMode, in.AllFailClosed, in.AllSpoofing, in.Except = true, r.Mode, r.FailClosed, r.Spoofing, nil
	}
	in.Bridges = slices.Clone(in.Bridges)
	for _, name := range r.Bridges {
		in.Bridges = slices.DeleteFunc(in.Bridges, func(b policy.BridgeIntent) bool { return b.Name == name })
		in.Bridges = append(in.Bridges, policy.BridgeIntent{Name: name, Mode: r.Mode, FailClosed: r.FailClosed, Spoofing: r.Spoofing})
		in.Except = slices.DeleteFunc(slices.Clone(in.Except), func(e string) bool { return e == name })
	}
	if len(r.Uplinks) > 0 {
		in.Uplinks = slices.Clone(r.Uplinks)
	}
	return in
}

// checkAttached looks at what became of a request.
func checkAttached(p policy.Result, r api.AttachRequest) error {
	if r.Wait {
		return nil
	}
	for _, b := range p.Bridges {
		if slices.Contains(r.Bridges, b.Name) && !b.Attached {
			return fmt.Errorf("bridge %s is not attached: %s", b.Name, b.Why)
		}
	}
	for _, u := range p.Uplinks {
		if slices.Contains(r.Uplinks, u.Name) && !u.Attached {
			return fmt.Errorf("uplink %s is not attached: %s", u.Name, u.Why)
		}
	}
	return nil
}

// change puts a new intent to work, and goes back to the old one where that fails or check does not like the result.
func (a *Agent) change(ctx context.Context, o policy.Observed, in policy.Intent, check func(policy.Result) error) error {
	old := a.state.Intent
	err := a.apply(o, in, false)
	if err == nil {
		a.setProblem("reconcile", nil)
	} else if a.known(err) {
		err = nil
	}
	if err == nil && check != nil {
		err = check(a.settled)
	}
	if err == nil {
		next := a.state
		next.Intent = in
		err = a.save(next)
	}
	if err == nil {
		a.publishView()
		return nil
	}
	if !wantsDatapath(old) {
		err = errors.Join(err, a.release())
	} else if undo := a.apply(o, old, false); undo != nil {
		a.log.Error("go back to what was", "error", undo)
		a.setProblem("reconcile", undo)
	}
	a.publishView()
	return err
}

// known tells whether an error is only what was wrong before the request: that is no reason to refuse it.
func (a *Agent) known(err error) bool {
	var partial *partialError
	if !errors.As(err, &partial) {
		return false
	}
	for _, line := range oneLine(err) {
		if !slices.Contains(a.problems["reconcile"], line) {
			return false
		}
	}
	return true
}

// detach runs in the loop.
func (a *Agent) detach(ctx context.Context, r api.DetachRequest) error {
	if r.All == (len(r.Bridges) > 0) {
		return usageError{errors.New("detach either bridges by name, or all")}
	}
	if r.All {
		if err := errors.Join(a.leaveNetwork(), a.release()); err != nil {
			return err
		}
		a.log.Info("detached everything")
		a.quit = a.o.Background
		return nil
	}
	in, err := a.withoutBridges(r.Bridges)
	if err != nil {
		return err
	}
	o, err := a.observe(ctx)
	if err != nil {
		return err
	}
	if err := a.change(ctx, o, in, nil); err != nil {
		return err
	}
	a.log.Info("detached", "bridges", r.Bridges)
	return nil
}

// withoutBridges is the intent without bridges that are attached, or waited for, now.
func (a *Agent) withoutBridges(names []string) (policy.Intent, error) {
	in := a.state.Intent
	in.Bridges, in.Except = slices.Clone(in.Bridges), slices.Clone(in.Except)
	for _, name := range names {
		named := slices.ContainsFunc(in.Bridges, func(b policy.BridgeIntent) bool { return b.Name == name })
		if !named && !slices.ContainsFunc(a.settled.Bridges, func(b policy.BridgeView) bool { return b.Name == name }) {
			return in, a.notAttached(name)
		}
		in.Bridges = slices.DeleteFunc(in.Bridges, func(b policy.BridgeIntent) bool { return b.Name == name })
		if in.All && !slices.Contains(in.Except, name) {
			in.Except = append(in.Except, name)
		}
	}
	return in, nil
}

func (a *Agent) notAttached(name string) error {
	var attached []string
	for _, b := range a.settled.Bridges {
		attached = append(attached, b.Name)
	}
	if len(attached) == 0 {
		return fmt.Errorf("bridge %s is not attached: none is", name)
	}
	return fmt.Errorf("bridge %s is not attached: attached are %s", name, enumerate(attached))
}
