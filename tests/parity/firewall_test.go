package parity

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Ports that the firewall knows. On the remote machine nobody listens on the last.
const (
	shutPort   = 9002 // published as 20002 by web
	deniedPort = 7010
)

// firewall is what an administrator has beside Docker's rules: drops in DOCKER-USER by source and by port, chains as ufw makes them in FORWARD, and
// a forward hook of nftables whose policy is to drop.
func firewall() []string {
	return []string{
		"iptables -I DOCKER-USER -s " + lab.RemoteIP2 + " -j DROP",
		"iptables -I DOCKER-USER -p tcp --dport 9002 -j REJECT",
		"iptables -I DOCKER-USER -p udp --dport 9002 -j DROP",
		"iptables -N ufw-before-forward",
		"iptables -A ufw-before-forward -m conntrack --ctstate INVALID -j DROP",
		"iptables -A ufw-before-forward -p tcp --dport 7010 -j REJECT --reject-with tcp-reset",
		"iptables -A ufw-before-forward -p udp --dport 7010 -j REJECT",
		"iptables -I FORWARD -j ufw-before-forward",
		"nft add table inet guard ; add chain inet guard way { type filter hook forward priority 10 ; policy drop ; } ; " +
			"add rule inet guard way ct state established,related accept ; add rule inet guard way ct status dnat accept ; " +
			"add rule inet guard way meta l4proto != { tcp, udp } accept ; " +
			"add rule inet guard way ip saddr { " + lab.BridgeNet + " , 10.65.0.0/16 } accept",
	}
}

// firewallChecks are what the firewall's rules are about.
func firewallChecks() (list []check) {
	list = append(list, both("a published port, from a source that DOCKER-USER drops", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8080), lab.From(lab.RemoteIP2+":0"))
	})...)
	list = append(list, both("a published port, from a source that it does not", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 8080))
	})...)
	list = append(list, both("a published port that DOCKER-USER shuts", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 20002))
	})...)
	list = append(list, both("the port beside it", func(t *testing.T, s *site, network string) string {
		return s.ask(s.Remote, network, lab.At(lab.HostIP, 20003))
	})...)
	list = append(list, both("a container to a port outside that a chain denies", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, lab.At(lab.RemoteIP, deniedPort))
	})...)
	list = append(list, both("a container to a neighbour's published port that DOCKER-USER shuts", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, lab.At(lab.HostIP, 20002))
	})...)
	list = append(list, both("a container to a neighbour's own port that DOCKER-USER would shut", func(t *testing.T, s *site, network string) string {
		return s.ask(s.a.NS, network, s.web.At(shutPort))
	})...)
	list = append(list, both("the host to a published port that DOCKER-USER shuts for others", func(t *testing.T, s *site, network string) string {
		return s.ask(s.NS, network, lab.At(lab.HostIP, 20002))
	})...)
	return list
}

// proxied makes one of what docker-proxy does where nobody listens behind it: it closes, before it has read what was sent or after it.
func proxied(outcome string) string {
	return strings.ReplaceAll(outcome, "connected, then reset", "connected, then closed")
}

// K-11: beside a firewall of somebody else's every case has on ebpfnet the outcome that it has on Docker without it, but for what is on the list:
// what nobody honest sends is dropped there too.
func TestParityFirewall(t *testing.T) {
	text, err := os.ReadFile(listPath)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseList(string(text))
	if err != nil {
		t.Fatalf("%s: %v", listPath, err)
	}
	all := slices.Concat(firewallChecks(), outChecks(), portChecks(), publishedChecks(), insideChecks(), hostChecks(), closedChecks(), streamChecks())
	all = slices.DeleteFunc(all, func(c check) bool { return c.alone })
	rows, _ := see(t, all, []Column{Stock, Over}, firewall()...)
	if t.Failed() {
		return
	}
	seen := map[string]int{}
	for _, r := range rows {
		stock, over := proxied(r.Outcomes[Stock]), proxied(r.Outcomes[Over])
		seen[stock]++
		listed := slices.ContainsFunc(list, func(d Difference) bool {
			return d.Case == r.Case && slices.Contains(d.Allowed[Stock], stock) && slices.Contains(d.Allowed[Over], over)
		})
		if stock != over && !listed {
			t.Errorf("%s: %q on Docker, %q with ebpfnet", r.Case, stock, over)
		}
	}
	for _, outcome := range []string{"web saw far, own port", "silence", "refused"} {
		if seen[outcome] < 4 {
			t.Errorf("%d cases end in %q: the firewall does not decide, or lets nothing through", seen[outcome], outcome)
		}
	}
}
