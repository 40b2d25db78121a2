package rules

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validate tells what a policy says that no policy can: as a Kubernetes API server would.
func validate(p *networkingv1.NetworkPolicy) field.ErrorList {
	var errs field.ErrorList
	name := field.NewPath("metadata", "name")
	if p.Name == "" {
		errs = append(errs, field.Required(name, "a policy has a name"))
	}
	for _, text := range validation.IsDNS1123Subdomain(p.Name) {
		if p.Name != "" {
			errs = append(errs, field.Invalid(name, p.Name, text))
		}
	}
	spec := field.NewPath("spec")
	options := metav1validation.LabelSelectorValidationOptions{}
	errs = append(errs, metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, options, spec.Child("podSelector"))...)
	for i, r := range p.Spec.Ingress {
		at := spec.Child("ingress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.From, at.Child("from"))...)
	}
	for i, r := range p.Spec.Egress {
		at := spec.Child("egress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.To, at.Child("to"))...)
	}
	seen := map[networkingv1.PolicyType]bool{}
	for i, t := range p.Spec.PolicyTypes {
		at := spec.Child("policyTypes").Index(i)
		switch {
		case t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress:
			errs = append(errs, field.NotSupported(at, t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}))
		case seen[t]:
			errs = append(errs, field.Duplicate(at, t))
		}
		seen[t] = true
	}
	return errs
}

func validatePorts(ports []networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range ports {
		at := at.Index(i)
		if p.Protocol != nil {
			switch *p.Protocol {
			case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
			default:
				errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol,
					[]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}))
			}
		}
		switch {
		case p.Port == nil && p.EndPort != nil:
			errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "needs a port to begin with"))
		case p.Port == nil:
		case p.Port.Type == intstr.String:
			for _, text := range validation.IsValidPortName(p.Port.StrVal) {
				errs = append(errs, field.Invalid(at.Child("port"), p.Port.StrVal, text))
			}
			if p.EndPort != nil {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "cannot follow a port that has a name"))
			}
		default:
			for _, text := range validation.IsValidPortNum(int(p.Port.IntVal)) {
				errs = append(errs, field.Invalid(at.Child("port"), p.Port.IntVal, text))
			}
			if p.EndPort == nil {
				continue
			}
			if *p.EndPort < p.Port.IntVal {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "must not be less than port"))
			}
			for _, text := range validation.IsValidPortNum(int(*p.EndPort)) {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, text))
			}
		}
	}
	return errs
}

func validatePeers(peers []networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	options := metav1validation.LabelSelectorValidationOptions{}
	for i, p := range peers {
		at := at.Index(i)
		switch {
		case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
			errs = append(errs, field.Forbidden(at, "a peer is an ipBlock, or selectors, and not both"))
		case p.IPBlock == nil && p.PodSelector == nil && p.NamespaceSelector == nil:
			errs = append(errs, field.Required(at, "a peer is an ipBlock, a podSelector or a namespaceSelector"))
		}
		if p.PodSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(p.PodSelector, options, at.Child("podSelector"))...)
		}
		if p.NamespaceSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(p.NamespaceSelector, options, at.Child("namespaceSelector"))...)
		}
		if p.IPBlock != nil {
			errs = append(errs, validateBlock(p.IPBlock, at.Child("ipBlock"))...)
		}
	}
	return errs
}

func validateBlock(b *networkingv1.IPBlock, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	block, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return append(errs, field.Invalid(at.Child("cidr"), b.CIDR, "is not ADDRESS/BITS"))
	}
	for i, text := range b.Except {
		at := at.Child("except").Index(i)
		except, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at, text, "is not ADDRESS/BITS"))
		case except.Bits() <= block.Bits() || !block.Contains(except.Addr()):
			errs = append(errs, field.Invalid(at, text, "does not lie within "+b.CIDR+", smaller than it"))
		}
	}
	return errs
}
