package policy

import (
	"fmt"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// CheckPublish tells why a spec cannot be published: somebody has one of its ports, or its address is not the host's. It does not know what
// the host's own processes listen on.
func (r *Result) CheckPublish(spec PublishSpec) error {
	if a := spec.HostIP; a.IsValid() && !a.IsLoopback() {
		if _, ok := r.State.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(a)}]; !ok {
			return fmt.Errorf("publish %s: %s is not an address of this host", spec, a)
		}
	}
	for _, p := range r.Ports {
		if !p.Spec.Conflicts(spec) {
			continue
		}
		if p.Source == SourceDocker {
			return fmt.Errorf("publish %s: docker has published %s for %s already", spec, p.Spec.Host(), p.Target)
		}
		return fmt.Errorf("publish %s: %s is published to %s already: run `ebpfnet unpublish %s` first", spec, p.Spec.Host(), p.Target,
			p.Spec.Host())
	}
	return nil
}

// Unpublish gives the intent without the host's ports. A part of a range may be taken out of it. Nothing there to take back is an error,
// which says who else may be meant; r is the result of compiling the intent.
func (in Intent) Unpublish(h HostPorts, r *Result) (Intent, error) {
	var kept []PublishIntent
	found := false
	for _, p := range in.Publish {
		if !p.Spec.Host().Overlaps(h) {
			kept = append(kept, p)
			continue
		}
		found = true
		for _, spec := range p.Spec.minus(h) {
			part := p
			part.Spec = spec
			kept = append(kept, part)
		}
	}
	if found {
		in.Publish = kept
		return in, nil
	}
	for _, p := range r.Ports {
		if p.Source == SourceDocker && p.Spec.Host().Overlaps(h) {
			return in, fmt.Errorf("unpublish %s: docker has published it for %s, and takes it back with the container", h, p.Target)
		}
	}
	for _, p := range in.Publish {
		if other := p.Spec.Host(); other.Proto == h.Proto && other.Start <= h.End && h.Start <= other.End {
			return in, fmt.Errorf("unpublish %s: nothing is published there; %s is", h, other)
		}
	}
	return in, fmt.Errorf("unpublish %s: nothing is published there", h)
}

// minus gives what is left of a spec's range, in up to two parts, when h, which overlaps it, is taken out.
func (s PublishSpec) minus(h HostPorts) []PublishSpec {
	var parts []PublishSpec
	if h.Start > s.HostPort {
		part := s
		part.HostEnd = h.Start - 1
		part.End = s.Port + (part.HostEnd - s.HostPort)
		parts = append(parts, part)
	}
	if h.End < s.HostEnd {
		part := s
		part.HostPort = h.End + 1
		part.Port = s.Port + (part.HostPort - s.HostPort)
		parts = append(parts, part)
	}
	return parts
}
