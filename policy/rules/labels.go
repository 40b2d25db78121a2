package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Labels by which a container says itself who may talk to it, and whom it may talk to.
const (
	LabelAllowFrom = "ebpfnet.allow-from"
	LabelEgress    = "ebpfnet.egress"
)

// FromLabels makes policies of a pod's labels LabelAllowFrom and LabelEgress. Each is a list of items with commas between them:
//
//	any               everybody
//	none              nobody; alone
//	10.0.0.0/8        addresses
//	web               the container of that name, and the Compose services of that name in the same namespace
//	@shop             the containers of a namespace
//	tier=front        the containers with a label, in any namespace
//
// followed, where not every port is meant, by :PORT, :PORT-END and /tcp, /udp or /sctp. A label that is something else closes its direction,
// and is told as a problem.
func FromLabels(p *Pod) (policies []Policy, problems []error) {
	for _, l := range []struct {
		label string
		kind  networkingv1.PolicyType
	}{{LabelAllowFrom, networkingv1.PolicyTypeIngress}, {LabelEgress, networkingv1.PolicyTypeEgress}} {
		text, ok := p.Labels[l.label]
		if !ok {
			continue
		}
		policy := Policy{Source: "label"}
		policy.Object.Namespace = p.Namespace
		policy.Object.Name = fmt.Sprintf("label %s of %s", l.label, p.Container)
		policy.Object.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{LabelContainer: p.Container}}
		policy.Object.Spec.PolicyTypes = []networkingv1.PolicyType{l.kind}
		items, err := parseItems(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("label %s of %s: %w: nothing passes until the container is made anew without the mistake",
				l.label, p.Name, err))
			items = nil
		}
		for _, i := range items {
			if l.kind == networkingv1.PolicyTypeIngress {
				policy.Object.Spec.Ingress = append(policy.Object.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: i.peers, Ports: i.ports})
			} else {
				policy.Object.Spec.Egress = append(policy.Object.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: i.peers, Ports: i.ports})
			}
		}
		policies = append(policies, policy)
	}
	return policies, problems
}

// item is one of a label's: whom, and by which ports.
type item struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func parseItems(text string) ([]item, error) {
	words := strings.Split(text, ",")
	if strings.TrimSpace(text) == "none" {
		return nil, nil
	}
	var items []item
	for _, w := range words {
		i, err := parseItem(strings.TrimSpace(w))
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

func parseItem(text string) (item, error) {
	who, port, hasPort := strings.Cut(text, ":")
	var i item
	var err error
	if i.peers, err = parseWho(who); err != nil {
		return item{}, err
	}
	if hasPort {
		p, err := parsePort(port)
		if err != nil {
			return item{}, fmt.Errorf("%q: %w", text, err)
		}
		i.ports = []networkingv1.NetworkPolicyPort{p}
	}
	return i, nil
}

func parseWho(who string) ([]networkingv1.NetworkPolicyPeer, error) {
	everywhere := &metav1.LabelSelector{}
	with := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	if who == "any" {
		return nil, nil
	}
	if p, err := netip.ParsePrefix(who); err == nil {
		return []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: p.Masked().String()}}}, nil
	}
	if a, err := netip.ParseAddr(who); err == nil {
		return []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: netip.PrefixFrom(a, a.BitLen()).String()}}}, nil
	}
	if name, ok := strings.CutPrefix(who, "@"); ok && name != "" {
		return []networkingv1.NetworkPolicyPeer{{NamespaceSelector: with(LabelNamespace, name)}}, nil
	}
	if key, value, ok := strings.Cut(who, "="); ok && key != "" {
		return []networkingv1.NetworkPolicyPeer{{NamespaceSelector: everywhere, PodSelector: with(key, value)}}, nil
	}
	if who == "" || who == "none" || strings.ContainsAny(who, "/ \t*") {
		return nil, fmt.Errorf("%q is not any, ADDRESS[/BITS], CONTAINER, @NAMESPACE or LABEL=VALUE", who)
	}
	return []networkingv1.NetworkPolicyPeer{
		{NamespaceSelector: everywhere, PodSelector: with(LabelContainer, who)},
		{PodSelector: with(labelService, who)},
	}, nil
}

// parsePort reads PORT, PORT-END, either with /PROTOCOL.
func parsePort(text string) (networkingv1.NetworkPolicyPort, error) {
	number, proto, hasProto := strings.Cut(text, "/")
	if !hasProto {
		proto = "tcp"
	}
	kind := corev1.Protocol(strings.ToUpper(proto))
	if _, ok := protocolNumber(proto); !ok {
		return networkingv1.NetworkPolicyPort{}, fmt.Errorf("protocol %q is not tcp, udp or sctp", proto)
	}
	lo, hi, isRange := strings.Cut(number, "-")
	if !isRange {
		hi = lo
	}
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return networkingv1.NetworkPolicyPort{}, fmt.Errorf("%q is not a port, nor PORT-END", number)
	}
	port, end := intstr.FromInt32(int32(a)), int32(b)
	p := networkingv1.NetworkPolicyPort{Protocol: &kind, Port: &port}
	if isRange {
		p.EndPort = &end
	}
	return p, nil
}
