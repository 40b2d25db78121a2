package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// oracle judges as the NetworkPolicy documentation reads, one policy after the other, with nothing compiled.
type oracle struct {
	pods     []Pod
	policies []Policy
}

func (o oracle) pod(a netip.Addr) *Pod {
	for i := range o.pods {
		if slices.Contains(o.pods[i].Addrs, a) {
			return &o.pods[i]
		}
	}
	return nil
}

func (o oracle) allows(from, to netip.Addr, proto uint8, port uint16) bool {
	f, t := o.pod(from), o.pod(to)
	if f != nil && f == t {
		return true
	}
	return o.passes(f, true, to, t, proto, port) && o.passes(t, false, from, f, proto, port)
}

// passes: whether the policies of one end let it pass.
func (o oracle) passes(own *Pod, sends bool, addr netip.Addr, other *Pod, proto uint8, port uint16) bool {
	if own == nil {
		return true
	}
	selected := false
	for _, p := range o.policies {
		spec := p.Object.Spec
		if p.Object.Namespace != own.Namespace || !matches(&spec.PodSelector, podLabels(own)) {
			continue
		}
		kind, asked := networkingv1.PolicyTypeIngress, len(spec.PolicyTypes) == 0
		if sends {
			kind, asked = networkingv1.PolicyTypeEgress, len(spec.PolicyTypes) == 0 && len(spec.Egress) > 0
		}
		if !asked && !slices.Contains(spec.PolicyTypes, kind) {
			continue
		}
		selected = true
		dialled := own
		if sends {
			dialled = other
		}
		if sends {
			for _, r := range spec.Egress {
				if o.peers(r.To, own.Namespace, addr, other) && portsMatch(r.Ports, dialled, proto, port) {
					return true
				}
			}
			continue
		}
		for _, r := range spec.Ingress {
			if o.peers(r.From, own.Namespace, addr, other) && portsMatch(r.Ports, dialled, proto, port) {
				return true
			}
		}
	}
	return !selected
}

func podLabels(p *Pod) labels.Set {
	out := labels.Set{LabelContainer: p.Container}
	for k, v := range p.Labels {
		if k != LabelContainer {
			out[k] = v
		}
	}
	return out
}

func matches(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic(err)
	}
	return selector.Matches(set)
}

func (o oracle) peers(peers []networkingv1.NetworkPolicyPeer, namespace string, addr netip.Addr, pod *Pod) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		switch {
		case p.IPBlock != nil:
			if netip.MustParsePrefix(p.IPBlock.CIDR).Contains(addr) && !slices.ContainsFunc(p.IPBlock.Except, func(e string) bool {
				return netip.MustParsePrefix(e).Contains(addr)
			}) {
				return true
			}
		case pod == nil:
		case p.NamespaceSelector == nil && pod.Namespace != namespace:
		case p.NamespaceSelector != nil && !matches(p.NamespaceSelector, namespaceLabels(pod)):
		case p.PodSelector != nil && !matches(p.PodSelector, podLabels(pod)):
		default:
			return true
		}
	}
	return false
}

func portsMatch(ports []networkingv1.NetworkPolicyPort, dialled *Pod, proto uint8, port uint16) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		want := corev1.ProtocolTCP
		if p.Protocol != nil {
			want = *p.Protocol
		}
		if n, _ := protocolNumber(string(want)); n != proto {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if dialled == nil {
				continue
			}
			named, _ := dialled.namedPorts()
			if slices.Contains(named, namedPort{p.Port.StrVal, port, proto}) {
				return true
			}
		case p.EndPort != nil:
			if int32(port) >= p.Port.IntVal && int32(port) <= *p.EndPort {
				return true
			}
		case p.Port.IntVal == int32(port):
			return true
		}
	}
	return false
}

// maker makes pods and policies at random, of few words, so that they meet.
type maker struct{ *rand.Rand }

func (m maker) pick(words ...string) string { return words[m.IntN(len(words))] }

func (m maker) pods(n int) []Pod {
	var all []Pod
	for i := range n {
		p := Pod{
			Name: fmt.Sprintf("c%d", i), Container: fmt.Sprintf("c%d", i), Namespace: m.pick("x", "y", "z"),
			Labels: map[string]string{"pod": m.pick("a", "b", "c")}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 17, byte(i / 16), byte(1 + i%16)})},
		}
		p.NamespaceLabels = map[string]string{"ns": p.Namespace}
		if m.IntN(2) == 0 {
			p.Labels["tier"] = m.pick("front", "back")
		}
		if m.IntN(2) == 0 {
			p.Labels[LabelPorts] = m.pick("http=80", "http=81,dns=53/udp", "http=80, dns=53/udp")
		}
		all = append(all, p)
	}
	return all
}

func (m maker) selector() *metav1.LabelSelector {
	switch m.IntN(5) {
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return &metav1.LabelSelector{MatchLabels: map[string]string{"pod": m.pick("a", "b", "c")}}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "tier", Operator: metav1.LabelSelectorOperator(m.pick("Exists", "DoesNotExist"))}}}
	case 3:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: m.pick("pod", "tier"), Operator: metav1.LabelSelectorOperator(m.pick("In", "NotIn")), Values: []string{m.pick("a", "front"), m.pick("b", "back")}}}}
	default:
		return &metav1.LabelSelector{MatchLabels: map[string]string{LabelContainer: fmt.Sprintf("c%d", m.IntN(20))}}
	}
}

func (m maker) peers() []networkingv1.NetworkPolicyPeer {
	var all []networkingv1.NetworkPolicyPeer
	for range m.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch m.IntN(4) {
		case 0:
			p.PodSelector = m.selector()
		case 1:
			p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{m.pick("ns", LabelNamespace): m.pick("x", "y")}}
		case 2:
			p.PodSelector, p.NamespaceSelector = m.selector(), &metav1.LabelSelector{}
		default:
			p.IPBlock = &networkingv1.IPBlock{CIDR: m.pick("0.0.0.0/0", "172.17.0.0/16", "192.0.2.0/24", "192.0.2.0/28", "172.17.0.0/28")}
			if m.IntN(2) == 0 && p.IPBlock.CIDR != "172.17.0.0/28" && p.IPBlock.CIDR != "192.0.2.0/28" {
				inner := map[string][]string{"0.0.0.0/0": {"192.0.2.0/24", "172.17.0.3/32"}, "172.17.0.0/16": {"172.17.0.0/29"}, "192.0.2.0/24": {"192.0.2.9/32"}}
				p.IPBlock.Except = []string{m.pick(inner[p.IPBlock.CIDR]...)}
			}
		}
		all = append(all, p)
	}
	return all
}

func (m maker) ports() []networkingv1.NetworkPolicyPort {
	var all []networkingv1.NetworkPolicyPort
	for range m.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		proto := corev1.Protocol(m.pick("TCP", "UDP"))
		if m.IntN(3) > 0 {
			p.Protocol = &proto
		}
		switch m.IntN(4) {
		case 0:
		case 1:
			name := intstr.FromString(m.pick("http", "dns"))
			p.Port = &name
		case 2:
			port, end := intstr.FromInt32(int32(50+m.IntN(30))), int32(80+m.IntN(3))
			p.Port, p.EndPort = &port, &end
		default:
			port := intstr.FromInt32(int32(79 + m.IntN(4)))
			p.Port = &port
		}
		all = append(all, p)
	}
	return all
}

func (m maker) policies(n int) []Policy {
	var all []Policy
	for i := range n {
		var p Policy
		p.Object.Name, p.Object.Namespace = fmt.Sprintf("p%d", i), m.pick("x", "y", "z")
		p.Object.Spec.PodSelector = *m.selector()
		for range m.IntN(3) {
			p.Object.Spec.Ingress = append(p.Object.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: m.peers(), Ports: m.ports()})
		}
		for range m.IntN(3) {
			p.Object.Spec.Egress = append(p.Object.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: m.peers(), Ports: m.ports()})
		}
		switch m.IntN(4) {
		case 0:
			p.Object.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		case 1:
			p.Object.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		case 2:
			p.Object.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
		}
		all = append(all, p)
	}
	return all
}

// G-6: what is compiled says of every pair, protocol and port what the documentation says; whichever numbers it had before.
func TestCompiledAsDocumented(t *testing.T) {
	numbers := NewNumbers()
	outside := []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("172.17.0.200")}
	allowed, refused := 0, 0
	for seed := range uint64(60) {
		m := maker{rand.New(rand.NewPCG(seed, 1))}
		o := oracle{m.pods(20), m.policies(1 + m.IntN(6))}
		c, err := Compile(o.pods, o.policies, numbers)
		if err != nil {
			t.Fatal(err)
		}
		addrs := slices.Clone(outside)
		for _, p := range o.pods {
			addrs = append(addrs, p.Addrs...)
		}
		for _, from := range addrs {
			for _, to := range addrs {
				for _, port := range []uint16{53, 80, 81, 82, 83, 9000} {
					for _, proto := range []uint8{6, 17} {
						got, want := c.Judge(from, to, proto, port), o.allows(from, to, proto, port)
						if got.Allow() != want {
							t.Fatalf("seed %d: %s > %s:%d/%s: compiled %+v, documented %v", seed, from, to, port, protocolName(proto), got, want)
						}
						if want {
							allowed++
						} else {
							refused++
						}
					}
				}
			}
		}
	}
	if allowed < 10000 || refused < 10000 {
		t.Errorf("%d are allowed and %d refused: too few to tell", allowed, refused)
	}
}
