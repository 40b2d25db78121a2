package rules

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// index finds pods by their labels without asking each of them: a selector is a few operations on sets.
type index struct {
	pods       []Pod
	all        set
	byLabel    map[string]map[string]set
	namespaces map[string]set
	nsLabels   map[string]map[string]string
}

func newIndex(pods []Pod) *index {
	ix := &index{
		pods: pods, all: fullSet(len(pods)), byLabel: map[string]map[string]set{}, namespaces: map[string]set{},
		nsLabels: map[string]map[string]string{},
	}
	put := func(key, value string, i int) {
		values := ix.byLabel[key]
		if values == nil {
			values = map[string]set{}
			ix.byLabel[key] = values
		}
		if values[value] == nil {
			values[value] = newSet(len(pods))
		}
		values[value].add(i)
	}
	for i := range pods {
		p := &pods[i]
		for k, v := range p.Labels {
			if k != LabelContainer {
				put(k, v, i)
			}
		}
		put(LabelContainer, p.Container, i)
		if ix.namespaces[p.Namespace] == nil {
			ix.namespaces[p.Namespace] = newSet(len(pods))
			ix.nsLabels[p.Namespace] = namespaceLabels(p)
		}
		ix.namespaces[p.Namespace].add(i)
	}
	return ix
}

// namespaceLabels gives the labels of a pod's namespace, its name among them.
func namespaceLabels(p *Pod) map[string]string {
	out := map[string]string{}
	for k, v := range p.NamespaceLabels {
		out[k] = v
	}
	out[LabelNamespace] = p.Namespace
	return out
}

// inNamespace gives a namespace's pods.
func (ix *index) inNamespace(name string) set {
	out := newSet(len(ix.pods))
	out.or(ix.namespaces[name])
	return out
}

// selected gives the pods that a selector of pods means, in any namespace. An empty one means all.
func (ix *index) selected(s *metav1.LabelSelector) (set, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(ix.all)
	requirements, selectable := selector.Requirements()
	if !selectable {
		return newSet(len(ix.pods)), nil
	}
	for _, r := range requirements {
		match := newSet(len(ix.pods))
		values := ix.byLabel[r.Key()]
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals, selection.NotIn, selection.NotEquals:
			for v := range r.Values() {
				match.or(values[v])
			}
		default: // Exists, DoesNotExist
			for _, with := range values {
				match.or(with)
			}
		}
		switch r.Operator() {
		case selection.NotIn, selection.NotEquals, selection.DoesNotExist:
			out.without(match)
		default:
			out.and(match)
		}
	}
	return out, nil
}

// selectedNamespaces gives the pods of the namespaces that a selector means.
func (ix *index) selectedNamespaces(s *metav1.LabelSelector) (set, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, err
	}
	out := newSet(len(ix.pods))
	for name, pods := range ix.namespaces {
		if selector.Matches(labels.Set(ix.nsLabels[name])) {
			out.or(pods)
		}
	}
	return out, nil
}
