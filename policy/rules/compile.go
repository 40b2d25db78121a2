package rules

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Compiled is what the maps must hold, and what the numbers in it mean.
type Compiled struct {
	Policy maps.Policy
	Rules  map[uint32]string // by the number in an event: "NAMESPACE/NAME ingress[0]", or the policies that select, for a refusal
	// Selected are the pods, by their place in what was compiled, that each policy selects, as the policies were given.
	Selected [][]int
	// Egress and Ingress tell for each pod whether a policy asks about that direction.
	Egress, Ingress []bool
	Problems        []string

	Addrs map[netip.Addr]int // whose each address is, by the pods' places
}

// direction is of a rule, from the side of the container that the policy selects.
type direction int

const (
	ingress direction = iota
	egress
	directions
)

func (d direction) String() string { return [...]string{"ingress", "egress"}[d] }

// rule is one of a policy's. It lets pass what it says, and refuses nothing by itself.
type rule struct {
	name  string
	any   bool  // every peer
	peers []int // in compiler.peers
	ports []portRange
	all   bool // every port of every protocol
}

// portRange is ports of a protocol; where name is set, whatever the dialled container calls so.
type portRange struct {
	proto  uint8
	lo, hi uint16
	name   string
	whole  bool // every port, and what of the protocol has none
}

// subject is a policy as it stands for what it selects.
type subject struct {
	name    string
	content string
	asks    [directions]bool
	rules   [directions][]rule
	pods    set
}

// peer is whom rules name: containers by selectors, or addresses by a block.
type peer struct {
	key    string
	pods   set
	block  netip.Prefix // not valid for selectors
	except []netip.Prefix
}

// class is of addresses that are alike to every rule.
type class struct {
	id       uint32
	pods     bool
	subjects [directions][]int // that select
	peers    []int             // that name it
	ports    map[string][]namedPort
}

type compiler struct {
	pods     []Pod
	ix       *index
	numbers  *Numbers
	out      Compiled
	subjects []subject
	peers    []peer
	byKey    map[string]int
	named    bool // a rule asks for a port's name
	classes  []class
	podClass []int
	blocks   []netip.Prefix // every prefix that blocks and exceptions name
	ofBlock  []int          // their classes
	members  [][]int        // classes by peer
	memo     map[string]uint32
}

// Compile compiles policies for pods. An error is of a selector that Parse would not have let through.
func Compile(pods []Pod, policies []Policy, numbers *Numbers) (Compiled, error) {
	numbers.begin()
	c := &compiler{pods: pods, ix: newIndex(pods), numbers: numbers, byKey: map[string]int{}, memo: map[string]uint32{}}
	c.out.Policy = maps.Policy{
		Idents: map[bpf.AddrKey]bpf.Ident{}, Classes: map[bpf.ClassKey]bpf.Class{}, Pairs: map[bpf.PairKey]bpf.Pair{},
		Profiles: map[bpf.ProfileKey]bpf.Profile{},
	}
	c.out.Rules = map[uint32]string{}
	c.out.Addrs = map[netip.Addr]int{}
	c.out.Egress, c.out.Ingress = make([]bool, len(pods)), make([]bool, len(pods))
	for i := range pods {
		for _, a := range pods[i].Addrs {
			c.out.Addrs[a] = i
		}
	}
	for i := range policies {
		if err := c.addPolicy(&policies[i]); err != nil {
			return Compiled{}, fmt.Errorf("policy %s: %w", policies[i].Name(), err)
		}
	}
	c.classify()
	c.write()
	return c.out, nil
}

// addPolicy resolves a policy's selectors.
func (c *compiler) addPolicy(p *Policy) error {
	spec := &p.Object.Spec
	s := subject{name: p.Name()}
	pods, err := c.ix.selected(&spec.PodSelector)
	if err != nil {
		return err
	}
	pods.and(c.ix.inNamespace(p.Object.Namespace))
	s.pods = pods
	for _, d := range Asks(spec) {
		s.asks[ingress] = s.asks[ingress] || d == ingress.String()
		s.asks[egress] = s.asks[egress] || d == egress.String()
	}
	if s.asks[ingress] {
		for i, r := range spec.Ingress {
			if err := c.addRule(&s, ingress, p, i, r.From, r.Ports); err != nil {
				return err
			}
		}
	}
	if s.asks[egress] {
		for i, r := range spec.Egress {
			if err := c.addRule(&s, egress, p, i, r.To, r.Ports); err != nil {
				return err
			}
		}
	}
	s.content = digest(fmt.Sprint(s.name, s.asks, s.rules, c.peerKeys(&s)))
	selected := []int{}
	s.pods.each(func(i int) {
		selected = append(selected, i)
		c.out.Ingress[i] = c.out.Ingress[i] || s.asks[ingress]
		c.out.Egress[i] = c.out.Egress[i] || s.asks[egress]
	})
	c.out.Selected = append(c.out.Selected, selected)
	c.subjects = append(c.subjects, s)
	return nil
}

// Asks tells which directions a policy is about, as words. Without policyTypes it is about ingress, and about egress where it has rules for that.
func Asks(s *networkingv1.NetworkPolicySpec) []string {
	all := []string{}
	if len(s.PolicyTypes) == 0 || slices.Contains(s.PolicyTypes, networkingv1.PolicyTypeIngress) {
		all = append(all, ingress.String())
	}
	if len(s.PolicyTypes) == 0 && len(s.Egress) > 0 || slices.Contains(s.PolicyTypes, networkingv1.PolicyTypeEgress) {
		all = append(all, egress.String())
	}
	return all
}

// peerKeys gives the content of whom a policy's rules name.
func (c *compiler) peerKeys(s *subject) []string {
	var keys []string
	for d := range directions {
		for _, r := range s.rules[d] {
			for _, p := range r.peers {
				keys = append(keys, c.peers[p].key)
			}
		}
	}
	return keys
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return string(sum[:16])
}

func (c *compiler) addRule(s *subject, d direction, p *Policy, i int, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) error {
	r := rule{name: fmt.Sprintf("%s %s[%d]", p.Name(), d, i), any: len(peers) == 0, all: len(ports) == 0}
	for j := range peers {
		n, err := c.addPeer(p.Object.Namespace, &peers[j])
		if err != nil {
			return err
		}
		r.peers = append(r.peers, n)
	}
	for _, port := range ports {
		r.ports = append(r.ports, portsOf(port))
		c.named = c.named || r.ports[len(r.ports)-1].name != ""
	}
	s.rules[d] = append(s.rules[d], r)
	return nil
}

func portsOf(p networkingv1.NetworkPolicyPort) portRange {
	r := portRange{proto: 6}
	if p.Protocol != nil {
		r.proto = map[corev1.Protocol]uint8{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}[*p.Protocol]
	}
	switch {
	case p.Port == nil:
		r.whole, r.hi = true, 65535
	case p.Port.Type == intstr.String:
		r.name = p.Port.StrVal
	default:
		r.lo = uint16(p.Port.IntVal)
		r.hi = r.lo
		if p.EndPort != nil {
			r.hi = uint16(*p.EndPort)
		}
	}
	return r
}

// addPeer finds out whom a rule names. What many rules say is looked up once.
func (c *compiler) addPeer(namespace string, from *networkingv1.NetworkPolicyPeer) (int, error) {
	key := from.String()
	if from.NamespaceSelector == nil {
		key += " in " + namespace
	}
	if n, ok := c.byKey[key]; ok {
		return n, nil
	}
	p := peer{key: digest(key), pods: newSet(len(c.pods))}
	switch {
	case from.IPBlock != nil:
		block, err := netip.ParsePrefix(from.IPBlock.CIDR)
		if err != nil {
			return 0, err
		}
		p.block = block.Masked()
		for _, text := range from.IPBlock.Except {
			except, err := netip.ParsePrefix(text)
			if err != nil {
				return 0, err
			}
			p.except = append(p.except, except.Masked())
		}
		for i := range c.pods {
			if slices.ContainsFunc(c.pods[i].Addrs, p.holds) {
				p.pods.add(i)
			}
		}
	default:
		p.pods.or(c.ix.all)
		if from.PodSelector != nil {
			pods, err := c.ix.selected(from.PodSelector)
			if err != nil {
				return 0, err
			}
			p.pods.and(pods)
		}
		in := c.ix.inNamespace(namespace)
		if from.NamespaceSelector != nil {
			var err error
			if in, err = c.ix.selectedNamespaces(from.NamespaceSelector); err != nil {
				return 0, err
			}
		}
		p.pods.and(in)
	}
	c.byKey[key] = len(c.peers)
	c.peers = append(c.peers, p)
	return len(c.peers) - 1, nil
}

// holds tells whether a block has an address.
func (p *peer) holds(a netip.Addr) bool {
	return p.block.IsValid() && p.block.Contains(a) && !slices.ContainsFunc(p.except, func(e netip.Prefix) bool { return e.Contains(a) })
}

// names gives a number to what an event tells of.
func (c *compiler) names(text string) uint32 {
	id := c.numbers.rules.give(text)
	c.out.Rules[id] = text
	return id
}

// refusal is what is told of a packet that none of the policies that select lets pass.
func (c *compiler) refusal(subjects []int) string {
	var names []string
	for _, s := range subjects {
		names = append(names, c.subjects[s].name)
	}
	sort.Strings(names)
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
