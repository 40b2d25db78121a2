package rules

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// crowd is n containers in twenty namespaces, every one with a label of its own, and n policies: each selects one container, and lets it be
// dialled by one other, by a tier and by a block of addresses, on ports of its own.
func crowd(n int) ([]Pod, []Policy) {
	pods, policies := make([]Pod, n), make([]Policy, n)
	for i := range n {
		pods[i] = Pod{
			Name: fmt.Sprintf("c%d", i), Container: fmt.Sprintf("c%d", i), Namespace: fmt.Sprintf("ns%d", i%20),
			Labels: map[string]string{"app": fmt.Sprintf("app%d", i), "tier": fmt.Sprintf("tier%d", i%50)},
			Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(1 + i%250)})},
		}
		port, first, last := intstr.FromInt32(80), intstr.FromInt32(int32(8000+i)), int32(9000+i)
		policies[i].Object = networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), Namespace: pods[i].Namespace},
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app%d", i)}},
				Ingress: []networkingv1.NetworkPolicyIngressRule{
					{
						From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app%d", (i+20)%n)}}}},
						Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
					},
					{
						From: []networkingv1.NetworkPolicyPeer{{
							NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": fmt.Sprintf("tier%d", i%50)}},
						}},
						Ports: []networkingv1.NetworkPolicyPort{{Port: &first, EndPort: &last}},
					},
					{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.%d.%d.0/24", i/250, i%250)}}}},
				},
			},
		}
	}
	return pods, policies
}

// A thousand rules for a thousand containers are compiled in less than a second, and what one more changes is little.
func TestThousand(t *testing.T) {
	pods, policies := crowd(1000)
	numbers := NewNumbers()
	start := time.Now()
	first, err := Compile(pods, policies, numbers)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("1,000 policies of 3 rules, 1,000 containers: %v; %d classes of addresses, %d pairs, %d entries of profiles", time.Since(start).Round(time.Millisecond),
		len(first.Policy.Classes), len(first.Policy.Pairs), len(first.Policy.Profiles))
	last := policies[len(policies)-1]
	second, err := Compile(pods, policies[:len(policies)-1], numbers)
	if err != nil {
		t.Fatal(err)
	}
	changed := differs(first.Policy.Pairs, second.Policy.Pairs) + differs(first.Policy.Profiles, second.Policy.Profiles) +
		differs(first.Policy.Idents, second.Policy.Idents) + differs(first.Policy.Classes, second.Policy.Classes)
	t.Logf("without %s: %d entries change", last.Name(), changed)
	if all := len(first.Policy.Pairs) + len(first.Policy.Profiles); changed > all/10 {
		t.Errorf("one policy less changes %d of %d entries", changed, all)
	}
}

func differs[K, V comparable](a, b map[K]V) int {
	n := 0
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			n++
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			n++
		}
	}
	return n
}

func BenchmarkCompile(b *testing.B) {
	pods, policies := crowd(1000)
	for b.Loop() {
		if _, err := Compile(pods, policies, NewNumbers()); err != nil {
			b.Fatal(err)
		}
	}
}
