package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// pod is a container as the rules see it: one of a, b and c in one of the namespaces x, y and z.
type pod struct {
	ns, name string
	*lab.Container
}

func (p pod) String() string { return p.ns + "/" + p.name }

// truth says what the rules of a case let pass. Nobody is kept from himself.
type truth func(from, to pod, proto string, port int) bool

// rulesCase is a set of policies, and the truth about it. IP:x/a stands for that container's address.
type rulesCase struct {
	name string
	yaml string
	want truth
}

const policyHead = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"

// policyYAML makes a policy of its namespace, name and spec, which begins in column 0.
func policyYAML(ns, name, spec string) string {
	return policyHead + "metadata: {name: " + name + ", namespace: " + ns + "}\nspec:\n" + indent(spec) + "---\n"
}

func indent(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString("  " + line)
	}
	if !strings.HasSuffix(s, "\n") {
		out.WriteString("\n")
	}
	return out.String()
}

// rulesCases are the examples of the NetworkPolicy documentation, fitted to these pods, and the cases that are easily got wrong.
func rulesCases() []rulesCase {
	always := func(pod, pod, string, int) bool { return true }
	return []rulesCase{
		{"no policy", "", always},
		{"deny all ingress", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Ingress]"), func(_, to pod, _ string, _ int) bool { return to.ns != "x" }},
		{"allow all ingress, over a denial", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Ingress]") +
			policyYAML("x", "allow", "podSelector: {}\ningress: [{}]\npolicyTypes: [Ingress]"), always},
		{"deny all egress", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Egress]"), func(from, _ pod, _ string, _ int) bool { return from.ns != "x" }},
		{"allow all egress, over a denial", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Egress]") +
			policyYAML("x", "allow", "podSelector: {}\negress: [{}]\npolicyTypes: [Egress]"), always},
		{"deny all", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Ingress, Egress]"), func(from, to pod, _ string, _ int) bool { return from.ns != "x" && to.ns != "x" }},
		{"deny all, and a name service", policyYAML("x", "deny", "podSelector: {}\npolicyTypes: [Ingress, Egress]") +
			policyYAML("x", "dns", "podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{protocol: UDP, port: 81}]}]"),
			func(from, to pod, proto string, port int) bool {
				return to.ns != "x" && (from.ns != "x" || proto == "udp" && port == 81)
			}},
		{"the documentation's first", policyYAML("x", "test-network-policy", `podSelector: {matchLabels: {pod: a}}
policyTypes: [Ingress, Egress]
ingress:
- from:
  - ipBlock: {cidr: 172.17.0.0/16, except: ["IP:y/b/32", "IP:z/c/32", "IP:y/c/32", "IP:x/b/32", "IP:x/c/32"]}
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}
  - podSelector: {matchLabels: {pod: b}}
  ports:
  - {protocol: TCP, port: 80}
egress:
- to: [{ipBlock: {cidr: "IP:y/a/32"}}]
  ports: [{protocol: TCP, port: 82}]
`), func(from, to pod, proto string, port int) bool {
			if to.ns == "x" && to.name == "a" {
				excepted := slices.Contains([]string{"y/b", "y/c", "x/b", "x/c", "z/c"}, from.String())
				return proto == "tcp" && port == 80 && (!excepted || from.ns == "z" || from.String() == "x/b")
			}
			if from.ns == "x" && from.name == "a" {
				return to.String() == "y/a" && proto == "tcp" && port == 82
			}
			return true
		}},
		{"one peer of two selectors", policyYAML("x", "and", `podSelector: {}
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}
    podSelector: {matchLabels: {pod: a}}
`), func(from, to pod, _ string, _ int) bool { return to.ns != "x" || from.String() == "y/a" }},
		{"two peers of a selector each", policyYAML("x", "or", `podSelector: {}
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}
  - podSelector: {matchLabels: {pod: a}}
`), func(from, to pod, _ string, _ int) bool {
			return to.ns != "x" || from.ns == "y" || from.String() == "x/a"
		}},
		{"an empty selector of pods means the own namespace", policyYAML("x", "own", "podSelector: {}\ningress: [{from: [{podSelector: {}}]}]"),
			func(from, to pod, _ string, _ int) bool { return to.ns != "x" || from.ns == "x" }},
		{"an empty selector of namespaces means all", policyYAML("x", "all", "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]"),
			func(_, to pod, proto string, port int) bool {
				return to.String() != "x/a" || proto == "tcp" && port == 80
			}},
		{"several namespaces by name", policyYAML("x", "egress-namespaces", `podSelector: {matchLabels: {pod: a}}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector:
      matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [y, z]}]
`), func(from, to pod, _ string, _ int) bool { return from.String() != "x/a" || to.ns != "x" }},
		{"a range of ports", policyYAML("x", "multi-port-egress", `podSelector: {matchLabels: {pod: a}}
policyTypes: [Egress]
egress:
- to: [{ipBlock: {cidr: 172.17.0.0/16}}]
  ports: [{protocol: TCP, port: 81, endPort: 32768}]
`), func(from, _ pod, proto string, port int) bool {
			return from.String() != "x/a" || proto == "tcp" && port >= 81
		}},
		{"a block of addresses, with exceptions", policyYAML("x", "block", `podSelector: {}
ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: ["IP:y/a/32", "IP:x/b/32"]}}]}]
`), func(from, to pod, _ string, _ int) bool {
			return to.ns != "x" || from.String() != "y/a" && from.String() != "x/b"
		}},
		{"an exception that another rule allows", policyYAML("x", "block", `podSelector: {}
ingress:
- from: [{ipBlock: {cidr: 0.0.0.0/0, except: ["IP:y/a/32"]}}]
- from: [{ipBlock: {cidr: "IP:y/a/32"}}]
  ports: [{protocol: UDP}]
`), func(from, to pod, proto string, _ int) bool {
			return to.ns != "x" || from.String() != "y/a" || proto == "udp"
		}},
		{"ports by name", policyYAML("x", "named", `podSelector: {}
ingress: [{ports: [{port: serve-80}, {protocol: UDP, port: serve-81}, {port: nobody-has-it}]}]
`), func(_, to pod, proto string, port int) bool {
			return to.ns != "x" || proto == "tcp" && port == 80 || proto == "udp" && port == 81
		}},
		{"ports by name, at whoever is dialled", policyYAML("x", "named", "podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{port: serve-80}]}]"),
			func(from, _ pod, proto string, port int) bool { return from.ns != "x" || proto == "tcp" && port == 80 }},
		{"both ends have a say", policyYAML("x", "out", "podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{port: 80}, {port: 81}]}]") +
			policyYAML("y", "in", "podSelector: {}\ningress: [{ports: [{port: 81}, {port: 82}]}]"),
			func(from, to pod, proto string, port int) bool {
				return (from.ns != "x" || proto == "tcp" && port <= 81) && (to.ns != "y" || proto == "tcp" && port >= 81)
			}},
		{"policies that overlap", policyYAML("x", "one", "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]") +
			policyYAML("x", "two", "podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{port: 81}]}]"),
			func(from, to pod, proto string, port int) bool {
				if to.ns != "x" {
					return true
				}
				one := to.name == "a" && from.String() == "x/b" && port == 80
				two := from.String() == "x/c" && port == 81
				return proto == "tcp" && (one || two)
			}},
		{"who is not", policyYAML("x", "not", `podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [c]}]}
ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [z]}]}, podSelector: {matchExpressions: [{key: nosuch, operator: DoesNotExist}, {key: pod, operator: Exists}]}}]}]
`), func(from, to pod, _ string, _ int) bool { return to.ns != "x" || to.name == "c" || from.ns != "z" }},
		{"rules for a direction that it is not about", policyYAML("x", "egress", "podSelector: {}\npolicyTypes: [Egress]\ningress: []\negress: [{to: [{podSelector: {}}]}]"),
			func(from, to pod, _ string, _ int) bool { return from.ns != "x" || to.ns == "x" }},
	}
}

// G-6 G-7: three namespaces of three containers, three ports and two protocols each: every connection that could be is tried, and is let through
// or not as the NetworkPolicy documentation says.
func TestRulesTruthTable(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		pods := s.pods(t)
		for _, c := range rulesCases() {
			t.Run(c.name, func(t *testing.T) {
				yaml := c.yaml
				for _, p := range pods {
					yaml = strings.ReplaceAll(yaml, "IP:"+p.String(), p.IP.String())
				}
				s.applyRules(t, yaml)
				probeAll(t, pods, c.want)
			})
		}
	})
}

// pods starts the nine containers.
func (s site) pods(t *testing.T) []pod {
	t.Helper()
	var pods []pod
	for _, ns := range []string{"x", "y", "z"} {
		for _, name := range []string{"a", "b", "c"} {
			c := s.Host.Run(t, ns+"-"+name, "--label", "com.docker.compose.project="+ns, "--label", "pod="+name, "--label", "ebpfnet.ports=serve-80=80, serve-81=81/udp",
				"--", "/bin/probe", "serve", "-name", ns+"/"+name, "-tcp", "80,81,82", "-udp", "80,81,82")
			pods = append(pods, pod{ns, name, c})
		}
	}
	for _, p := range pods {
		s.await(t, p.Container)
	}
	return pods
}

// applyRules puts rules in force for as long as the test runs.
func (s site) applyRules(t *testing.T, yaml string) {
	t.Helper()
	if yaml == "" {
		return
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for part := range strings.SplitSeq(yaml, "metadata: {name: ") {
			name, rest, ok := strings.Cut(part, ", namespace: ")
			if !ok {
				continue
			}
			ns, _, _ := strings.Cut(rest, "}")
			s.Ebpfnet(t, "policy", "delete", ns+"/"+name)
		}
	})
	s.Ebpfnet(t, "policy", "apply", "-f", file)
}

// How long a probe is waited for: one that is to be answered until the machine has had every chance, one that is not for long enough that an
// answer would have come.
const (
	answerWait  = 20 * time.Second
	silenceWait = 400 * time.Millisecond
)

// probeAll tries every connection at once, as far as threads go.
func probeAll(t *testing.T, pods []pod, want truth) {
	t.Helper()
	type result struct {
		what string
		ok   bool
	}
	var wg sync.WaitGroup
	room := make(chan bool, 128)
	results := make(chan result, len(pods)*len(pods)*6)
	for _, from := range pods {
		for _, to := range pods {
			for _, port := range []int{80, 81, 82} {
				for _, proto := range []string{"tcp", "udp"} {
					if from == to {
						continue
					}
					wg.Go(func() {
						room <- true
						defer func() { <-room }()
						expected := want(from, to, proto, port)
						wait := silenceWait
						if expected {
							wait = answerWait
						}
						answer, err := from.NS.TryAsk(proto, to.At(port), lab.Within(wait))
						switch {
						case expected && err != nil:
							results <- result{fmt.Sprintf("%s > %s:%d/%s is allowed, and fails: %v", from, to, port, proto, err), false}
						case !expected && err == nil:
							results <- result{fmt.Sprintf("%s > %s:%d/%s is forbidden, and answered by %s", from, to, port, proto, answer.Name), false}
						case err == nil && answer.Name != to.String():
							results <- result{fmt.Sprintf("%s > %s:%d/%s is answered by %s", from, to, port, proto, answer.Name), false}
						default:
							results <- result{"", true}
						}
					})
				}
			}
		}
	}
	wg.Wait()
	close(results)
	wrong := 0
	for r := range results {
		if !r.ok {
			if wrong++; wrong <= 10 {
				t.Error(r.what)
			}
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
}
