package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Target is what PickTarget chose: the intent to keep, and the endpoint that it means now.
type Target struct {
	Intent   PublishIntent
	Endpoint *EndpointView
	Address  netip.Addr // the container's
}

// PickTarget chooses where a port that is being published leads. An empty name leaves the choice to it: the only endpoint there is, or the
// only one that exposes the ports. Every error is one line, and none is one of usage.
func (r *Result) PickTarget(spec PublishSpec, name string) (Target, error) {
	if !slices.ContainsFunc(r.Bridges, func(b BridgeView) bool { return b.Attached }) {
		return Target{}, fmt.Errorf("publish %s: no bridge is attached: run `ebpfnet attach --bridge docker0` first", spec)
	}
	t := Target{Intent: PublishIntent{Spec: spec, Target: name}}
	var err error
	if name == "" {
		t.Endpoint, err = r.onlyTarget(spec)
	} else {
		t.Endpoint, t.Intent.Container, err = r.namedTarget(name)
	}
	if err != nil {
		return Target{}, fmt.Errorf("publish %s: %w", spec, err)
	}
	ep := t.Endpoint
	t.Address = ep.Addr()
	switch {
	case !t.Address.IsValid():
		return Target{}, fmt.Errorf("publish %s: %s cannot be reached: %s", spec, ep.Name, ep.whyNoAddr())
	case ep.Internal:
		return Target{}, fmt.Errorf("publish %s: %s cannot be reached from outside: %s", spec, ep.Name, ep.whyInternal())
	}
	if i := slices.IndexFunc(r.Bridges, func(b BridgeView) bool { return b.Name == ep.Bridge }); i >= 0 && !spec.HostIP.IsValid() {
		t.Intent.Spec.HostIP = r.Bridges[i].Binding
	}
	if a, err := netip.ParseAddr(name); err == nil {
		t.Address = a.Unmap()
		return t, nil
	}
	if t.Intent.Container != "" || name == "" {
		t.Intent.Target = ep.Name
	}
	if name == "" {
		t.Intent.Container = ep.ContainerID
	}
	return t, nil
}

// namedTarget finds the endpoint, and the id of the container where the name was one's.
func (r *Result) namedTarget(name string) (*EndpointView, string, error) {
	i, res, err := r.names.find(name)
	switch {
	case err != nil:
		return nil, "", err
	case i < 0 && res.mode == "host":
		return nil, "", fmt.Errorf("%s uses the host's network: its ports are already the host's; nothing to publish", res.name)
	case i < 0:
		return nil, "", fmt.Errorf("%s %s", res.name, res.why)
	}
	ep := &r.Endpoints[i]
	if res == nil {
		return ep, "", nil
	}
	// The port is the namespace's, so the container that has it is what is remembered.
	return ep, ep.ContainerID, nil
}

// onlyTarget finds the one endpoint that can be meant. The further endpoints of a container do not count, nor do internal networks.
func (r *Result) onlyTarget(spec PublishSpec) (*EndpointView, error) {
	var all, exposing []*EndpointView
	for i := range r.Endpoints {
		ep := &r.Endpoints[i]
		if !ep.Main || ep.Internal {
			continue
		}
		all = append(all, ep)
		if ep.exposes(spec) {
			exposing = append(exposing, ep)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("there is no endpoint to publish to: start a container on an attached bridge")
	case len(all) == 1:
		return all[0], nil
	case len(exposing) == 1:
		return exposing[0], nil
	}
	what := fmt.Sprintf("none of them exposes %s", containerPorts(spec))
	if len(exposing) > 1 {
		all = exposing
		what = fmt.Sprintf("all of them expose %s", containerPorts(spec))
	}
	names := make([]string, len(all))
	for i, ep := range all {
		names[i] = ep.Name
	}
	return nil, fmt.Errorf("which endpoint? %d can be meant and %s: name one of %s", len(all), what, listed(names))
}

// exposes tells whether the container's image, or that of one that shares its namespace, declares every port of a spec.
func (e *EndpointView) exposes(spec PublishSpec) bool {
	declared := make(map[uint16]bool)
	for _, p := range e.exposed {
		if p.Proto == spec.Proto && spec.Port <= p.Port && p.Port <= spec.End {
			declared[p.Port] = true
		}
	}
	return len(declared) == int(spec.End)-int(spec.Port)+1
}

func containerPorts(spec PublishSpec) string {
	return formatRange(spec.Port, spec.End) + "/" + ProtoName(spec.Proto)
}
