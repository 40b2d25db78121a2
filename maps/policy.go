package maps

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// policyHave is what the kernel holds of rules: both sets, but for Idents, which are the endpoints' entries'.
type policyHave struct {
	sets      [bpf.PolicySets]Policy
	endpoints map[bpf.AddrKey]bpf.Endpoint // as they are in the map, Policy included
}

// setOf writes the number of a set into keys.
func setOf[K, V comparable](m map[K]V, set func(*K)) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		set(&k)
		out[k] = v
	}
	return out
}

// loadPolicy reads both sets.
func (m *Maps) loadPolicy(endpoints map[bpf.AddrKey]bpf.Endpoint) (*policyHave, error) {
	t := m.tables()
	classes, err1 := t.classes.load()
	pairs, err2 := t.pairs.load()
	profiles, err3 := t.profiles.load()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	h := &policyHave{endpoints: endpoints}
	for i := range h.sets {
		h.sets[i] = Policy{Classes: map[bpf.ClassKey]bpf.Class{}, Pairs: map[bpf.PairKey]bpf.Pair{}, Profiles: map[bpf.ProfileKey]bpf.Profile{}}
	}
	for k, v := range classes {
		set := k.Set % bpf.PolicySets
		k.Set = 0
		h.sets[set].Classes[k] = v
	}
	for k, v := range pairs {
		set := k.Set % bpf.PolicySets
		k.Set = 0
		h.sets[set].Pairs[k] = v
	}
	for k, v := range profiles {
		set := k.Set % bpf.PolicySets
		k.Set = 0
		h.sets[set].Profiles[k] = v
	}
	return h, nil
}

// inSet gives what a State would say of a set.
func (h *policyHave) inSet(set uint32) Policy {
	p := h.sets[set]
	p.Idents = map[bpf.AddrKey]bpf.Ident{}
	for k, ep := range h.endpoints {
		if ident := ep.Policy[set]; ident != (bpf.Ident{}) {
			p.Idents[k] = ident
		}
	}
	return p
}

// plain gives endpoints as a State has them: what rules call them stands elsewhere.
func plain(endpoints map[bpf.AddrKey]bpf.Endpoint) map[bpf.AddrKey]bpf.Endpoint {
	out := make(map[bpf.AddrKey]bpf.Endpoint, len(endpoints))
	for k, ep := range endpoints {
		ep.Policy = [bpf.PolicySets]bpf.Ident{}
		out[k] = ep
	}
	return out
}

// syncPolicy puts rules in force, all at once: the set that no packet is judged by is made what want says, in the maps and in the entries of
// the endpoints that are there already; then one word says that it is the one. When it returns no program runs any more that has read the
// old word, so that what a flow was decided by from now on is the new set, and the old one may be written. Out: what was written, nil where
// nothing had to be. After an error the old set is in force.
func (m *Maps) syncPolicy(want State, cfg *bpf.Config) ([]TableChanges, error) {
	h := m.policy
	if h.inForce(want, cfg.PolicySet%bpf.PolicySets) {
		return nil, nil
	}
	next := (cfg.PolicySet + 1) % bpf.PolicySets
	had := h.sets[next]
	t := m.tables()
	set := next
	classes := diff(t.classes, setOf(had.Classes, func(k *bpf.ClassKey) { k.Set = set }), setOf(want.Policy.Classes, func(k *bpf.ClassKey) { k.Set = set }))
	pairs := diff(t.pairs, setOf(had.Pairs, func(k *bpf.PairKey) { k.Set = set }), setOf(want.Policy.Pairs, func(k *bpf.PairKey) { k.Set = set }))
	profiles := diff(t.profiles, setOf(had.Profiles, func(k *bpf.ProfileKey) { k.Set = set }),
		setOf(want.Policy.Profiles, func(k *bpf.ProfileKey) { k.Set = set }))
	staged := maps.Clone(h.endpoints)
	for k, ep := range staged {
		if now, stays := want.Endpoints[k]; stays && now.Id == ep.Id {
			ep.Policy[next] = want.Policy.Idents[k]
			staged[k] = ep
		}
	}
	endpoints := diff(t.endpoints, h.endpoints, staged)

	var changes []TableChanges
	writers := []writer{classes, pairs, profiles, endpoints}
	m.policy = nil // not known until all is written
	var errs []error
	for _, w := range writers {
		errs = append(errs, w.delete(), w.put())
		if c := w.counted(); c.Added+c.Changed+c.Deleted > 0 {
			changes = append(changes, c)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return changes, err
	}
	cfg.PolicySet = next
	if err := m.setConfig(*cfg); err != nil {
		return changes, err
	}
	if err := waitForPrograms(); err != nil {
		return changes, err
	}
	h.sets[next], h.endpoints = want.Policy, staged
	m.policy = h
	return changes, nil
}

// inForce tells whether a set says what is wanted, but for whose entry is still to be written.
func (h *policyHave) inForce(want State, set uint32) bool {
	if !h.sets[set].alike(want.Policy) {
		return false
	}
	for k, ep := range h.endpoints {
		if now, stays := want.Endpoints[k]; stays && now.Id == ep.Id && ep.Policy[set] != want.Policy.Idents[k] {
			return false
		}
	}
	return true
}

// withIdents gives endpoints as their map should hold them, where a set is in force: the other set's word for an endpoint that stays is left
// as it is. Where the rules could not be written, who comes is closed if they would have selected him.
func withIdents(want State, held map[bpf.AddrKey]bpf.Endpoint, set uint32, written bool) map[bpf.AddrKey]bpf.Endpoint {
	out := make(map[bpf.AddrKey]bpf.Endpoint, len(want.Endpoints))
	for k, ep := range want.Endpoints {
		ident := want.Policy.Idents[k]
		old, there := held[k]
		stays := there && old.Id == ep.Id
		if stays {
			ep.Policy = old.Policy
		}
		switch {
		case written:
			ep.Policy[set%bpf.PolicySets] = ident
		case !stays:
			ident = closed(ident)
			ep.Policy = [bpf.PolicySets]bpf.Ident{ident, ident}
		}
		out[k] = ep
	}
	return out
}

// closed gives what stands for an endpoint whose rules are not in force.
func closed(i bpf.Ident) bpf.Ident {
	var out bpf.Ident
	if i.Egress != bpf.DatapathProfileIdPROFILE_OPEN {
		out.Egress = bpf.DatapathProfileIdPROFILE_CLOSED
	}
	if i.Ingress != bpf.DatapathProfileIdPROFILE_OPEN {
		out.Ingress = bpf.DatapathProfileIdPROFILE_CLOSED
	}
	return out
}

// waitForPrograms returns when every program that runs now has ended. The kernel does that by itself after a change of a map of maps
// (kernel/bpf/syscall.c, maybe_wait_bpf_programs).
func waitForPrograms() error {
	spec := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	inner, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	defer inner.Close()
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec})
	if err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	defer outer.Close()
	if err := outer.Put(uint32(0), inner); err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	return nil
}
