package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// sourceApplied is the source of policies that `policy apply` brought.
const sourceApplied = "applied"

// applyPolicies runs in the loop. Policies of the same name are replaced; either all of a request's are in force afterwards, or none.
func (a *Agent) applyPolicies(ctx context.Context, q api.PolicyRequest) (api.PolicyChange, error) {
	var fresh []rules.Policy
	var errs []error
	for _, d := range q.Documents {
		list, err := rules.Parse(d.File, []byte(d.Text))
		errs = append(errs, err)
		fresh = append(fresh, list...)
	}
	if err := errors.Join(errs...); err != nil {
		return api.PolicyChange{}, usageError{errors.New(strings.Join(errorLines(err), "\n"))}
	}
	if len(fresh) == 0 {
		return api.PolicyChange{}, usageError{errors.New("apply policies: there is none in what was given")}
	}
	names := map[string]bool{}
	for i := range fresh {
		p := &fresh[i]
		if names[p.Name()] {
			return api.PolicyChange{}, usageError{fmt.Errorf("%s: %s is given twice", p.Source, p.Name())}
		}
		names[p.Name()] = true
		for _, old := range a.state.Intent.Policies {
			if old.Source != sourceApplied && old.Name() == p.Name() {
				return api.PolicyChange{}, fmt.Errorf("apply %s: it stands in %s: change it there", p.Name(), old.Source)
			}
		}
		p.Source = sourceApplied
	}
	next := slices.DeleteFunc(slices.Clone(a.state.Intent.Policies), func(p rules.Policy) bool { return names[p.Name()] })
	next = append(next, fresh...)
	return a.changePolicies(ctx, next, names, q.DryRun)
}

// deletePolicy runs in the loop.
func (a *Agent) deletePolicy(ctx context.Context, q api.PolicyDelete) (api.PolicyChange, error) {
	var found []string
	for _, p := range a.state.Intent.Policies {
		if p.Name() != q.Name && p.Object.Name != q.Name {
			continue
		}
		if p.Source != sourceApplied {
			return api.PolicyChange{}, fmt.Errorf("delete %s: it stands in %s: remove it there", p.Name(), p.Source)
		}
		found = append(found, p.Name())
	}
	switch len(found) {
	case 0:
		return api.PolicyChange{}, fmt.Errorf("delete %s: there is no such policy: `ebpfnet policy list` has those that there are", q.Name)
	case 1:
	default:
		return api.PolicyChange{}, fmt.Errorf("delete %s: there is %s: say which", q.Name, strings.Join(found, " and "))
	}
	names := map[string]bool{found[0]: true}
	next := slices.DeleteFunc(slices.Clone(a.state.Intent.Policies), func(p rules.Policy) bool { return names[p.Name()] })
	return a.changePolicies(ctx, next, names, q.DryRun)
}

// changePolicies puts policies in force in place of those that were, and tells of those that are named.
func (a *Agent) changePolicies(ctx context.Context, next []rules.Policy, names map[string]bool, dry bool) (api.PolicyChange, error) {
	o, err := a.observe(ctx)
	if err != nil {
		return api.PolicyChange{}, err
	}
	in := a.state.Intent
	before := policy.Compile(o, in, a.ids0())
	in.Policies = next
	after := policy.Compile(o, in, a.ids0())
	c := api.PolicyChange{Policies: []api.Policy{}, Undone: dry}
	told := map[string]bool{}
	for _, r := range []*policy.Result{&after, &before} {
		for _, p := range policyRows(r) {
			if names[p.Name] && !told[p.Name] {
				told[p.Name] = true
				c.Policies = append(c.Policies, p)
			}
		}
	}
	if c.Cut, err = a.flowsCut(&before, &after); err != nil {
		return api.PolicyChange{}, err
	}
	if dry {
		return c, nil
	}
	if err := a.change(ctx, o, in, nil); err != nil {
		return api.PolicyChange{}, err
	}
	a.log.Info("policies changed", "policies", len(next), "changed", len(names), "flows cut", len(c.Cut))
	return c, nil
}

// ids0 gives numbers for a compilation of which nothing becomes.
func (a *Agent) ids0() *policy.Identities {
	return policy.NewIdentities(maps.State{}, policy.Slots{Endpoints: 1 << 15, Bridges: 1 << 10, Published: 1 << 12})
}

// flowsCut lists the flows of now that the rules let pass before, and no longer do.
func (a *Agent) flowsCut(before, after *policy.Result) ([]api.Flow, error) {
	cut := []api.Flow{}
	namer := &flowNamer{endpoints: map[uint32]string{}, paths: a.host.Names.Paths}
	for i := range a.settled.Endpoints {
		namer.endpoints[a.settled.Endpoints[i].ID] = a.settled.Endpoints[i].Name
	}
	err := a.eachFlow(namer, func(r *maps.FlowRow) bool {
		k, f := &r.Key, &r.Flow
		host := f.Path == bpf.DatapathFlowPathPATH_HOST && f.SrcId == 0
		if f.Flags&bpf.DatapathFlowFlagFLOW_REPLY != 0 || host {
			return true
		}
		from, to, port := bpf.ToAddr(k.Saddr), bpf.ToAddr(f.Daddr), bpf.ToPort(f.Dport)
		if before.Rules.Judge(from, to, k.Proto, port).Allow() && !after.Rules.Judge(from, to, k.Proto, port).Allow() {
			cut = append(cut, namer.row(r))
		}
		return true
	})
	return cut, err
}

// policyRows shows a result's policies.
func policyRows(r *policy.Result) []api.Policy {
	rows := []api.Policy{}
	for _, p := range r.Policies {
		rows = append(rows, api.Policy{Name: p.Name, Source: p.Source, Selected: p.Selected, Direction: p.Directions})
	}
	return rows
}

// listPolicies shows what is in force.
func (a *Agent) listPolicies() []api.Policy {
	v := a.view.Load()
	return policyRows(&v.result)
}

// testPolicy says what the rules in force say of a flow. A published port is looked through, as the datapath does.
func (a *Agent) testPolicy(values url.Values) (any, error) {
	v := a.view.Load()
	port, err := strconv.ParseUint(values.Get("port"), 10, 16)
	if err != nil {
		return nil, usageError{fmt.Errorf("port %q is not 0 to 65535", values.Get("port"))}
	}
	proto, err := protoNumber(values.Get("proto"))
	if err != nil {
		return nil, usageError{err}
	}
	from, err := v.addressOf(values.Get("from"))
	if err != nil {
		return nil, err
	}
	to, err := v.addressOf(values.Get("to"))
	if err != nil {
		return nil, err
	}
	to, number := v.behind(to, proto, uint16(port))
	if v.isHost(from) {
		side := api.PolicySide{Allow: true}
		return api.PolicyVerdict{Verdict: "allow", Reason: "the host itself", Egress: side, Ingress: side}, nil
	}
	verdict := v.result.Rules.Judge(from, to, proto, number)
	out := api.PolicyVerdict{
		Verdict: "allow", Rule: verdict.Rule(),
		Egress:  api.PolicySide{Asked: verdict.Egress.Asked, Allow: verdict.Egress.Allow, Rule: verdict.Egress.Rule},
		Ingress: api.PolicySide{Asked: verdict.Ingress.Asked, Allow: verdict.Ingress.Allow, Rule: verdict.Ingress.Rule},
	}
	switch {
	case !verdict.Egress.Allow:
		out.Verdict, out.Reason = "drop", "policy_egress"
	case !verdict.Ingress.Allow:
		out.Verdict, out.Reason = "drop", "policy_ingress"
	}
	return out, nil
}

// addressOf gives the address that a container's name, or an address, stands for.
func (v *view) addressOf(name string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr, nil
	}
	e, err := v.result.Endpoint(name)
	if err != nil {
		return netip.Addr{}, v.known(err)
	}
	if !e.Addr().IsValid() {
		return netip.Addr{}, fmt.Errorf("%s has no IPv4 address of bridge %s", e.Name, e.Bridge)
	}
	return e.Addr(), nil
}

func (v *view) isHost(addr netip.Addr) bool {
	_, ok := v.result.State.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(addr)}]
	return ok || addr.IsLoopback()
}

// behind gives whom a published port leads to, and by which port; anything else is itself.
func (v *view) behind(addr netip.Addr, proto uint8, port uint16) (netip.Addr, uint16) {
	if !v.isHost(addr) {
		return addr, port
	}
	for _, at := range []netip.Addr{addr, {}} {
		if p, ok := v.result.State.Publish[bpf.PublishKey{Addr: bpf.Addr(at), Port: bpf.Port(port), Proto: proto}]; ok {
			return bpf.ToAddr(p.Addr), bpf.ToPort(p.Port)
		}
	}
	return addr, port
}

// errorLines gives each of several joined errors a line, however deep they are joined.
func errorLines(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range joined.Unwrap() {
		all = append(all, errorLines(e)...)
	}
	return all
}
