package firewall

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace puts the test into a network namespace of its own for its whole life. Its thread is thrown away with it.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
}

// feed runs a program with text on its standard input.
func feed(t *testing.T, input, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

func saved(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".save")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// present lists the tables of both backends.
func present(t *testing.T) string {
	t.Helper()
	nft, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(nft) + string(legacy)
}

func TestInspect(t *testing.T) {
	tests := []struct {
		name              string
		iptables, legacy  string // for iptables-nft-restore and iptables-legacy-restore
		nft               string
		foreign           []string
		docker, notDocker []string
	}{
		{name: "nothing", notDocker: []string{"docker0", ""}},
		{name: "Docker", iptables: saved(t, "docker-29"), docker: []string{"docker0", "routed0"}, notDocker: []string{"docker1", "wan0"}},
		{name: "Docker in the older backend", legacy: saved(t, "docker-20.10"), docker: []string{"docker0", "inside"}},
		{name: "Docker's nftables",
			nft: `
table ip docker-bridges {
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname vmap @filter-forward-in-jumps
	}
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump in__docker0, "br-6f1f3a0c9a11" : jump in__docker0 }
	}
	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 172.17.0.2 iifname != "docker0" counter drop
	}
	chain in__docker0 {
		counter drop
	}
}
table ip6 docker-bridges {
	chain filter-FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}`,
			docker: []string{"docker0", "br-6f1f3a0c9a11"}, notDocker: []string{"docker", "in__docker0"},
		},
		{name: "both of iptables' backends",
			iptables: "*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n" +
				"-A DOCKER-USER -s 192.0.2.0/24 -m comment --comment \"not them\" -j DROP\nCOMMIT\n",
			legacy: "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n",
			foreign: []string{`filter DOCKER-USER: -s 192.0.2.0/24 -m comment --comment "not them" -j DROP`,
				"legacy filter FORWARD: policy DROP"},
		},
		{name: "iptables for bridged packets",
			nft:     "table bridge filter { chain FORWARD { type filter hook forward priority filter; policy accept; ether type arp accept; }; }",
			foreign: []string{"bridge filter FORWARD: hook forward, 1 rule"},
		},
		{name: "a firewall in nftables",
			nft: `
table inet filter {
	chain input { type filter hook input priority filter; policy drop; }
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		ip saddr { 192.0.2.1, 192.0.2.2 } tcp dport 80 limit rate 1/second log prefix "x" reject
	}
}`,
			foreign: []string{"inet filter forward: hook forward, policy drop, 2 rules"},
		},
		{name: "nothing that decides",
			nft: `
table inet a { chain forward { type filter hook forward priority filter; policy accept; }; }
table ip6 b { chain forward { type filter hook forward priority filter; policy drop; }; }
table ip c { flags dormant; chain forward { type filter hook forward priority filter; policy drop; }; }
table ip d {
	chain marks { meta mark set 1 counter goto marks2; }
	chain marks2 { ct state new accept; }
	chain pre { type filter hook prerouting priority mangle; jump marks; jump marks2; }
	chain nat { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 masquerade; }
	chain out { type filter hook output priority filter; policy drop; }
}
table netdev e { chain in { type filter hook ingress device lo priority 0; policy accept; counter; }; }`,
		},
		{name: "drops before and behind forwarding",
			nft: `
table ip a {
	chain deep { ip saddr 192.0.2.1 drop; }
	chain pre { type filter hook prerouting priority raw; jump deep; }
	chain post { type filter hook postrouting priority 0; oifname vmap { "wan0" : jump deep }; }
}
table netdev b { chain in { type filter hook ingress device lo priority 0; policy drop; }; }
table inet c { chain in { type filter hook ingress device lo priority 0; ip saddr 192.0.2.1 drop; }; }`,
			foreign: []string{
				"ip a pre: hook prerouting, rules that drop", "ip a post: hook postrouting, rules that drop",
				"netdev b in: hook ingress, policy drop", "inet c in: hook ingress, rules that drop",
			},
		},
		{name: "nftables' own in iptables' table",
			iptables: saved(t, "docker-29"),
			nft: `table ip filter {
	chain forward { type filter hook forward priority 10; ip saddr 192.0.2.1 drop; }
}`,
			docker:  []string{"docker0"},
			foreign: []string{"ip filter forward: hook forward, 1 rule"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			if tt.iptables != "" {
				feed(t, tt.iptables, "iptables-nft-restore")
			}
			if tt.legacy != "" {
				if out, err := exec.Command("iptables-legacy", "-S").CombinedOutput(); err != nil {
					t.Skipf("no legacy iptables here: %s", out)
				}
				feed(t, tt.legacy, "iptables-legacy-restore")
			}
			if tt.nft != "" {
				feed(t, tt.nft, "nft", "-f", "-")
			}
			before := present(t)
			got, err := Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var foreign []string
			for _, r := range got.Foreign {
				foreign = append(foreign, r.String())
			}
			if diff := cmp.Diff(tt.foreign, foreign); diff != "" {
				t.Errorf("foreign (-want +got):\n%s", diff)
			}
			for _, b := range tt.docker {
				if !got.DockerRules(b) {
					t.Errorf("no rules of Docker's for %s", b)
				}
			}
			for _, b := range tt.notDocker {
				if got.DockerRules(b) {
					t.Errorf("rules of Docker's for %s", b)
				}
			}
			if after := present(t); after != before {
				t.Errorf("looking made tables: %q, before %q", after, before)
			}
		})
	}
}

// What iptables-save makes of a rule that nft put into iptables' table depends on its version: part of it, or nothing of the whole table.
// IPsec policies for what leaves are rules of the administrator's; others are for what comes in.
func TestIPsec(t *testing.T) {
	inNamespace(t)
	inspect := func() Report {
		t.Helper()
		report, err := Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if r := inspect(); len(r.Foreign) > 0 || r.IPsec {
		t.Fatalf("nothing is there: %+v", r)
	}
	feed(t, "xfrm policy add dir out src 172.17.0.0/16 dst 10.9.0.0/16 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel\n"+
		"xfrm policy add dir out src 0.0.0.0/0 dst 10.8.0.0/16 proto udp dport 53 action block\n"+
		"xfrm policy add dir fwd src 10.9.0.0/16 dst 172.17.0.0/16 tmpl src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel\n", "ip", "-batch", "-")
	r := inspect()
	var got []string
	for _, rule := range r.Foreign {
		got = append(got, rule.String())
	}
	slices.Sort(got)
	want := []string{"ipsec out: 0.0.0.0/0 to 10.8.0.0/16, protocol 17 port 53: blocked", "ipsec out: 172.17.0.0/16 to 10.9.0.0/16"}
	if diff := cmp.Diff(want, got); diff != "" || !r.IPsec {
		t.Errorf("IPsec %v (-want +got):\n%s", r.IPsec, diff)
	}
}

func TestRuleThatIPTablesCannotTell(t *testing.T) {
	for _, rule := range []string{"ip saddr { 192.0.2.1, 192.0.2.2 } drop", "ip saddr vmap @m", "tcp dport 80 ct mark set 1 jump DOCKER"} {
		t.Run(rule, func(t *testing.T) {
			inNamespace(t)
			feed(t, saved(t, "docker-29"), "iptables-nft-restore")
			feed(t, "table ip filter { map m { type ipv4_addr : verdict; }; chain DOCKER-USER { "+rule+"; }; }", "nft", "-f", "-")
			got, err := Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Foreign) == 0 {
				t.Error("no foreign rule")
			}
		})
	}
}

// No answer is better than "no rules" from one who may not look.
func TestInspectWithoutPrivileges(t *testing.T) {
	inNamespace(t)
	feed(t, "table inet filter { chain forward { type filter hook forward priority filter; policy drop; }; }", "nft", "-f", "-")
	withoutPrivileges(t)
	if got, err := Inspect(t.Context()); err == nil {
		t.Errorf("found %v, want an error", got.Foreign)
	}
}

// withoutPrivileges takes all capabilities from the test's thread, which is thrown away after the test.
func withoutPrivileges(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
}
