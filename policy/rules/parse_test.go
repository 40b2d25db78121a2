package rules

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\n  namespace: n\n"

// Every mistake is told by file, line and field, and no policy of the file is given.
func TestParseMistakes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"no yaml", "a: [", []string{"f.yaml:1: "}},
		{"another kind", "apiVersion: v1\nkind: Pod\n", []string{`f.yaml:1: apiVersion: "v1"`, `f.yaml:2: kind: "Pod"`}},
		{"no object", "- 1\n", []string{"f.yaml:1: want a NetworkPolicy"}},
		{"no name", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nspec: {podSelector: {}}\n", []string{"metadata.name: "}},
		{"a field that there is not", head + "spec:\n  podSelector: {}\n  ingres: []\n", []string{"f.yaml:8: spec.ingres: there is no such field"}},
		{"a field deep down", head + "spec:\n  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        exept: []\n",
			[]string{"f.yaml:12: spec.ingress[0].from[0].ipBlock.exept: there is no such field"}},
		{"a list that is none", head + "spec:\n  podSelector: {}\n  ingress:\n    ports: 80\n", []string{"f.yaml:9: spec.ingress: want a list"}},
		{"a number for a word", head + "spec:\n  podSelector: {}\n  policyTypes: [7]\n", []string{"f.yaml:8: spec.policyTypes[0]: 7: want a string"}},
		{"twice", head + "spec:\n  podSelector: {}\n  podSelector: {}\n", []string{"f.yaml:8: spec.podSelector: stands there twice"}},
		{"ports", head + "spec:\n  podSelector: {}\n  ingress:\n  - ports:\n    - port: 0\n    - port: 80\n      endPort: 79\n    - endPort: 5\n    - port: http\n      endPort: 99\n    - protocol: ICMP\n    - port: NoName!\n",
			[]string{"f.yaml:10: spec.ingress[0].ports[0].port: ", "f.yaml:12: spec.ingress[0].ports[1].endPort: ", "f.yaml:13: spec.ingress[0].ports[2].endPort: ",
				"f.yaml:15: spec.ingress[0].ports[3].endPort: ", "f.yaml:16: spec.ingress[0].ports[4].protocol: ", "f.yaml:17: spec.ingress[0].ports[5].port: "}},
		{"blocks", head + "spec:\n  podSelector: {}\n  egress:\n  - to:\n    - ipBlock:\n        cidr: 10.0.0.0/33\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except: [192.0.2.0/24, 10.0.0.0/8, x]\n",
			[]string{"f.yaml:11: spec.egress[0].to[0].ipBlock.cidr: ", "f.yaml:14: spec.egress[0].to[1].ipBlock.except[0]: ", "f.yaml:14: spec.egress[0].to[1].ipBlock.except[1]: ",
				"f.yaml:14: spec.egress[0].to[1].ipBlock.except[2]: "}},
		{"peers", head + "spec:\n  podSelector: {}\n  ingress:\n  - from:\n    - {}\n    - ipBlock: {cidr: 10.0.0.0/8}\n      podSelector: {}\n",
			[]string{"f.yaml:10: spec.ingress[0].from[0]: ", "f.yaml:11: spec.ingress[0].from[1]: "}},
		{"selectors", head + "spec:\n  podSelector:\n    matchExpressions:\n    - key: a\n      operator: Near\n    - key: b\n      operator: In\n",
			[]string{"f.yaml:10: spec.podSelector.matchExpressions[0].operator: ", "f.yaml:11: spec.podSelector.matchExpressions[1].values: "}},
		{"types", head + "spec:\n  podSelector: {}\n  policyTypes: [Ingress, Sideways]\n", []string{"f.yaml:8: spec.policyTypes[1]: "}},
		{"the same name twice", head + "spec: {podSelector: {}}\n---\n" + head + "spec: {podSelector: {}}\n", []string{"f.yaml:8: metadata.name: n/p stands in line 1 already"}},
		{"one of two", head + "spec: {podSelector: {}}\n---\n" + head + "spec: {podSelectr: {}}\n", []string{"f.yaml:13: spec.podSelectr: there is no such field"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("f.yaml", []byte(c.text))
			if err == nil || len(got) > 0 {
				t.Fatalf("got %d policies, and the error %v", len(got), err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("got %d errors, want %d:\n%v", len(lines), len(c.want), err)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], want) && !strings.Contains(lines[i], want) {
					t.Errorf("got %q, want %q", lines[i], want)
				}
			}
		})
	}
}

// What is right is taken as it is written: several documents, JSON, words that older YAML takes for truth values.
func TestParse(t *testing.T) {
	text := "# nothing but a comment\n---\n" + head + "spec: {podSelector: {matchLabels: {a: y, b: on}}}\n---\n" +
		`{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "q", "namespace": "y"}, "spec": {"podSelector": {}}}` + "\n---\n" +
		strings.ReplaceAll(strings.ReplaceAll(head, "  namespace: n\n", ""), "name: p", "name: r") + "spec: {podSelector: {}}\n"
	got, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range got {
		names = append(names, p.Name())
	}
	if diff := cmp.Diff([]string{"n/p", "y/q", "default/r"}, names); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "y", "b": "on"}, got[0].Object.Spec.PodSelector.MatchLabels); diff != "" {
		t.Errorf("labels (-want +got)\n%s", diff)
	}
}

// Labels say what rules do, and a label that says nothing sensible lets nothing pass.
func TestFromLabels(t *testing.T) {
	pods := func(label, text string) []Pod {
		all := []Pod{
			{Name: "db", Container: "db", Namespace: "shop", Labels: map[string]string{label: text}},
			{Name: "web", Container: "web", Namespace: "shop", Labels: map[string]string{"tier": "front"}},
			{Name: "api-1", Container: "api-1", Namespace: "shop", Labels: map[string]string{labelService: "api"}},
			{Name: "api-2", Container: "api-2", Namespace: "other", Labels: map[string]string{labelService: "api"}},
		}
		for i := range all {
			all[i].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{172, 17, 0, byte(2 + i)})}
		}
		return all
	}
	outside := netip.MustParseAddr("192.0.2.9")
	for _, c := range []struct {
		text    string
		allowed string // of web, api-1, api-2 and the machine outside: by ports 80 and 81 of TCP, and 53 of UDP
		problem string
	}{
		{"any", "web:80 web:81 web:53 api-1:80 api-1:81 api-1:53 api-2:80 api-2:81 api-2:53 out:80 out:81 out:53", ""},
		{"none", "", ""},
		{"web", "web:80 web:81 web:53", ""},
		{"web:80", "web:80", ""},
		{"web:80-81, any:53/udp", "web:80 web:81 web:53 api-1:53 api-2:53 out:53", ""},
		{"api:80", "api-1:80", ""},
		{"@other", "api-2:80 api-2:81 api-2:53", ""},
		{"tier=front:81", "web:81", ""},
		{"192.0.2.0/24:80", "out:80", ""},
		{"192.0.2.9", "out:80 out:81 out:53", ""},
		{"", "", "is not any"},
		{"web,", "", "is not any"},
		{"web:http", "", "is not a port"},
		{"web:80/icmp", "", "is not tcp"},
		{"web:81-80", "", "is not a port"},
		{"none,web", "", "is not any"},
		{"10.0.0.0/40", "", "is not any"},
	} {
		for _, label := range []string{LabelAllowFrom, LabelEgress} {
			all := pods(label, c.text)
			policies, problems := FromLabels(&all[0])
			if len(problems) > 0 != (c.problem != "") || len(problems) > 0 && !strings.Contains(problems[0].Error(), c.problem) {
				t.Errorf("%s=%q: problems %v, want %q", label, c.text, problems, c.problem)
			}
			compiled, err := Compile(all, policies, NewNumbers())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, name := range []string{"web", "api-1", "api-2", "out"} {
				peer := outside
				if i < 3 {
					peer = all[i+1].Addrs[0]
				}
				from, to := peer, all[0].Addrs[0]
				if label == LabelEgress {
					from, to = to, from
				}
				for _, p := range []struct {
					proto uint8
					port  uint16
					word  string
				}{{6, 80, ":80"}, {6, 81, ":81"}, {17, 53, ":53"}} {
					if compiled.Judge(from, to, p.proto, p.port).Allow() {
						got = append(got, name+p.word)
					}
				}
			}
			if diff := cmp.Diff(c.allowed, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s=%q (-want +got)\n%s", label, c.text, diff)
			}
		}
	}
}

// A range of ports becomes the fewest prefixes, and exactly its ports.
func TestSplit(t *testing.T) {
	for _, r := range [][2]uint16{{80, 80}, {80, 83}, {81, 90}, {1, 65535}, {0, 65535}, {32000, 32768}, {65535, 65535}} {
		covered := map[uint16]int{}
		for _, p := range split(r[0], r[1]) {
			for i := range uint32(1) << (16 - p.bits) {
				covered[p.port+uint16(i)]++
			}
		}
		for port := range uint32(65536) {
			want := 0
			if port >= uint32(r[0]) && port <= uint32(r[1]) {
				want = 1
			}
			if covered[uint16(port)] != want {
				t.Fatalf("%v: port %d is covered %d times, want %d", r, port, covered[uint16(port)], want)
			}
		}
	}
}
