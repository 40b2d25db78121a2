package policy

import (
	"net/netip"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// Labels of a container that its traffic is treated by.
const (
	labelProject     = "com.docker.compose.project"
	labelEgressIP    = "ebpfnet.egress-ip"
	labelPublishFrom = "ebpfnet.publish-from"
)

// RuleView is a policy as the command line shows it.
type RuleView struct {
	Name       string // NAMESPACE/NAME
	Source     string
	Directions []string // that it asks about: ingress, egress
	Selected   []string // endpoints, by name
}

// addRules compiles the users' rules, those of the containers' labels among them. Where that fails nothing is carried for anybody whom a rule
// could select: it would be guessed.
func (c *compiler) addRules() {
	pods := make([]rules.Pod, len(c.endpoints))
	policies := append([]rules.Policy(nil), c.in.Policies...)
	labelled := map[string]bool{}
	for i, ep := range c.endpoints {
		pods[i] = c.pod(ep)
		made, problems := rules.FromLabels(&pods[i])
		for _, err := range problems {
			c.problem("%v", err)
		}
		// A container's endpoints in one namespace have one policy.
		for _, p := range made {
			if !labelled[p.Name()] {
				labelled[p.Name()] = true
				policies = append(policies, p)
			}
		}
	}
	c.r.Pods = pods
	if len(policies) == 0 {
		c.r.Rules = &rules.Compiled{}
		return
	}
	compiled, err := rules.Compile(pods, policies, c.ids.rules)
	if err != nil {
		c.problem("%v: no container is carried until that is mended", err)
		for k := range c.r.State.Endpoints {
			if c.r.State.Policy.Idents == nil {
				c.r.State.Policy.Idents = map[bpf.AddrKey]bpf.Ident{}
			}
			c.r.State.Policy.Idents[k] = bpf.Ident{Egress: bpf.DatapathProfileIdPROFILE_CLOSED, Ingress: bpf.DatapathProfileIdPROFILE_CLOSED}
		}
		c.r.Rules = &rules.Compiled{}
		return
	}
	c.r.State.Policy, c.r.Rules = compiled.Policy, &compiled
	for _, p := range compiled.Problems {
		c.problem("%s", p)
	}
	for i, ep := range c.endpoints {
		v := c.r.State.Veths[uint32(ep.Index)]
		if compiled.Egress[i] {
			v.Flags |= bpf.DatapathVethFlagVETH_EGRESS
		}
		if compiled.Ingress[i] {
			v.Flags |= bpf.DatapathVethFlagVETH_INGRESS
		}
		c.r.State.Veths[uint32(ep.Index)] = v
	}
	for i := range policies {
		view := RuleView{Name: policies[i].Name(), Source: policies[i].Source, Directions: rules.Asks(&policies[i].Object.Spec), Selected: []string{}}
		for _, pod := range compiled.Selected[i] {
			view.Selected = append(view.Selected, pods[pod].Name)
		}
		c.r.Policies = append(c.r.Policies, view)
	}
}

// pod gives an endpoint as the rules see it. Its namespace is its Compose project; else its Docker network, of which the default one is called
// default; else the bridge.
func (c *compiler) pod(ep *endpoint) rules.Pod {
	p := rules.Pod{Name: ep.name, Container: ep.name, Namespace: ep.bridge.Name, Addrs: ep.addrs}
	if n := ep.bridge.network; n != nil {
		p.Namespace, p.NamespaceLabels = n.Name, n.Labels
		if isSet(n.Options[optDefault]) || n.Name == "bridge" {
			p.Namespace = rules.DefaultNamespace
		}
	}
	if ep.container != nil {
		p.Container, p.Labels = ep.container.Name, ep.container.Labels
		if project := ep.container.Labels[labelProject]; project != "" {
			p.Namespace, p.NamespaceLabels = project, nil
		}
	}
	return p
}

// egressAddr gives the address that an endpoint is to leave with, as its entry has it.
func (c *compiler) egressAddr(ep *endpoint) uint32 {
	if ep.container == nil {
		return 0
	}
	text, ok := ep.container.Labels[labelEgressIP]
	if !ok {
		return 0
	}
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	switch {
	case err != nil || !a.Is4():
		c.problem("container %s has the label %s=%s, which is not an IPv4 address: it does not leave", ep.name, labelEgressIP, text)
	case !c.host[a] || a.IsLoopback():
		c.problem("container %s has the label %s=%s, which is not an address of this host now: it does not leave until it is", ep.name, labelEgressIP, text)
	default:
		return bpf.Addr(a)
	}
	return bpf.EgressNone
}
