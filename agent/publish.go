package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/policy"
)

// errNothingAttached is told where a port has nothing to lead to.
var errNothingAttached = errors.New("nothing is attached: `ebpfnet attach --bridge BRIDGE` comes first")

// publish runs in the loop.
func (a *Agent) publish(ctx context.Context, r api.PublishRequest) (api.Port, error) {
	spec, err := policy.ParsePublish(r.Spec)
	if err != nil {
		return api.Port{}, usageError{err}
	}
	var from []netip.Prefix
	if r.From != "" {
		if from, err = policy.ParseFrom(r.From); err != nil {
			return api.Port{}, usageError{fmt.Errorf("--from: %w", err)}
		}
	}
	if a.dp == nil {
		return api.Port{}, errNothingAttached
	}
	// The container may have started a moment ago.
	o, err := a.observe(ctx)
	if err != nil {
		return api.Port{}, err
	}
	now := policy.Compile(o, a.state.Intent, a.ids)
	target, err := now.PickTarget(spec, r.Target)
	if err != nil {
		return api.Port{}, err
	}
	// Its network may say on which address; who names one, 0.0.0.0 included, has said so himself.
	if strings.Count(r.Spec, ":") == 2 {
		target.Intent.Spec = spec
	}
	spec = target.Intent.Spec
	if err := now.CheckPublish(spec); err != nil {
		return api.Port{}, err
	}
	if err := a.checkListening(now.Ports, spec); err != nil {
		return api.Port{}, err
	}
	if r.Uplink != "" && !slices.ContainsFunc(now.Uplinks, func(u policy.UplinkView) bool { return u.Name == r.Uplink && u.Attached }) {
		return api.Port{}, fmt.Errorf("publish %s: %s is not an attached uplink: `ebpfnet status` lists those", spec, r.Uplink)
	}
	target.Intent.From, target.Intent.Uplink = from, r.Uplink
	in := a.state.Intent
	in.Publish = append(slices.Clone(in.Publish), target.Intent)
	var published api.Port
	err = a.change(ctx, o, in, func(p policy.Result) error {
		i := slices.IndexFunc(p.Ports, func(v policy.PortView) bool { return v.Source == policy.SourceUser && v.Spec == spec })
		if i < 0 {
			return fmt.Errorf("publish %s: it is not in force", spec)
		}
		if !p.Ports[i].Active {
			return fmt.Errorf("publish %s: it is not in force: %s", spec, p.Ports[i].Inactive)
		}
		published = portRow(p.Ports[i])
		return nil
	})
	if err != nil {
		return api.Port{}, err
	}
	a.log.Info("published", "ports", spec.String(), "endpoint", target.Endpoint.Name, "address", target.Address)
	return published, nil
}

// checkListening refuses ports that a process of the host listens on: it would go deaf. dockerd listens on every port that it publishes,
// so where it has the port, that is the reason.
func (a *Agent) checkListening(ports []policy.PortView, spec policy.PublishSpec) error {
	host := spec.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	socket, err := a.host.Listening(host, spec.HostPort, spec.HostEnd, spec.Proto)
	if err != nil {
		return fmt.Errorf("publish %s: %w", spec, err)
	}
	if socket == "" {
		return nil
	}
	for _, p := range ports {
		if p.Source == policy.SourceDocker && p.Spec.Proto == spec.Proto && p.Spec.HostPort <= spec.HostEnd && spec.HostPort <= p.Spec.HostEnd {
			return fmt.Errorf("publish %s: docker has published %s for %s already", spec, p.Spec.Host(), p.Target)
		}
	}
	return fmt.Errorf("publish %s: %s: stop it, or choose another port", spec, socket)
}

// unpublish runs in the loop.
func (a *Agent) unpublish(ctx context.Context, r api.UnpublishRequest) error {
	host, err := policy.ParseUnpublish(r.Spec)
	if err != nil {
		return usageError{err}
	}
	in, err := a.state.Intent.Unpublish(host, &a.settled)
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
	a.log.Info("unpublished", "ports", host.String())
	return nil
}
