package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// writeRules writes a file of rules and gives its path.
func writeRules(t *testing.T, yaml string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// alone is a namespace of a test's own.
func alone(ns string) string { return "--label=com.docker.compose.project=" + ns }

// G-6: who is outside is judged by his own address where a published port is dialled, before and after a change, over Docker's rules too; a
// refusal is told with the rule's name by monitor, trace and policy test.
func TestRulesForPublishedPort(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8091:80", "-p", "8091:80/udp", alone("rp"))
		peer := s.Run(t, "peer", alone("rp"))
		at := lab.At(lab.HostIP, 8091)
		open := s.Remote.Dial(t, "tcp", at)
		open.Ask(t)
		file := writeRules(t, policyYAML("rp", "outside", `podSelector: {}
ingress: [{from: [{ipBlock: {cidr: `+lab.RouterIP+`/32}}], ports: [{port: 80}]}]
`))

		var dry api.PolicyChange
		s.JSON(t, &dry, "policy", "apply", "--dry-run", "-f", file)
		if len(dry.Policies) != 1 || !slices.Contains(dry.Policies[0].Selected, web.Name) || !slices.Contains(dry.Policies[0].Selected, peer.Name) {
			t.Errorf("the trial says %+v", dry.Policies)
		}
		if !slices.ContainsFunc(dry.Cut, func(f api.Flow) bool { return f.Original.Source == lab.RemoteIP && f.Translated.DestinationPort == 80 }) {
			t.Errorf("the trial does not name the connection that would be cut: %+v", dry.Cut)
		}
		open.Ask(t) // nothing has changed

		watched := s.watch(t, "--drops", "--reason", "policy_ingress")
		s.Ebpfnet(t, "policy", "apply", "-f", file)
		t.Cleanup(func() { s.Try(t, "policy", "delete", "rp/outside") })
		if a, err := open.TryAsk(); err == nil {
			t.Errorf("an established connection goes on under rules that forbid it: %+v", a)
		}
		both(t, func(t *testing.T, network string) {
			s.dropped(t, "policy_ingress", 1, func() { s.Remote.Unanswered(t, network, at) })
			s.dropped(t, "policy_ingress", 1, func() { peer.NS.Unanswered(t, network, web.At(80)) })
			s.dropped(t, "policy_ingress", 1, func() { peer.NS.Unanswered(t, network, at) })
		})
		eq(t, "who may", s.Router.Ask(t, "tcp", at).Seen().Addr().String(), lab.RouterIP)
		s.Router.Unanswered(t, "udp", at)
		eq(t, "the host itself", s.NS.Ask(t, "tcp", web.At(80)).Name, "web")
		watched.find(t, "a drop with its rule", func(e api.Event) bool {
			return e.Rule == "rp/outside" && e.Original.Source == lab.RemoteIP
		})

		var v api.PolicyVerdict
		out := s.Try(t, "-o", "json", "policy", "test", "--from", lab.RemoteIP, "--to", lab.HostIP+":8091")
		if err := json.Unmarshal([]byte(out.Stdout), &v); err != nil || out.Code != 1 || v.Rule != "rp/outside" || v.Reason != "policy_ingress" {
			t.Errorf("policy test says %+v, %v", out, err)
		}
		v = api.PolicyVerdict{}
		s.JSON(t, &v, "policy", "test", "--from", lab.RouterIP, "--to", web.Name+":80")
		if v.Verdict != "allow" || v.Rule != "rp/outside ingress[0]" {
			t.Errorf("policy test says %+v of who may", v)
		}
		for from, want := range map[string]api.Trace{
			lab.RouterIP: {Verdict: "forward", Rule: "rp/outside ingress[0]"},
			lab.RemoteIP: {Verdict: "drop", Reason: "policy_ingress", Rule: "rp/outside"},
		} {
			var got api.Trace
			s.JSON(t, &got, "trace", "--from", "wire", "--from-addr", from, "--to", at)
			eq(t, "trace from "+from, fmt.Sprint(got.Verdict, " ", got.Reason, " ", got.Rule), fmt.Sprint(want.Verdict, " ", want.Reason, " ", want.Rule))
		}
		s.Ebpfnet(t, "policy", "delete", "outside")
		eq(t, "afterwards", s.Remote.Ask(t, "tcp", at).Name, "web")
	})
}

// Mistakes are told by file, line and field, and the rules stay as they were; a folder of rules is followed.
func TestRulesFolder(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web, peer := s.Run(t, "web", alone("rf")), s.Run(t, "peer", alone("rf"))
		dir := "/etc/ebpfnet/policies." + s.Instance.Name
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		follow := func(want string) {
			t.Helper()
			lab.Eventually(t, answerWait, func() error {
				if got := s.Ebpfnet(t, "policy", "list"); !strings.Contains(got, want) {
					return fmt.Errorf("%q is not in\n%s", want, got)
				}
				return nil
			})
		}
		gone := func() {
			t.Helper()
			lab.Eventually(t, answerWait, func() error {
				if got := s.Ebpfnet(t, "policy", "list"); strings.Contains(got, "rf/") {
					return fmt.Errorf("still there:\n%s", got)
				}
				return nil
			})
		}
		t.Cleanup(func() {
			os.RemoveAll(dir)
			os.Remove(filepath.Dir(dir)) // where it was made for this
			gone()
		})
		file := filepath.Join(dir, "web.yaml")
		write := func(name, text string) {
			t.Helper()
			// As editors do: whole, under another name.
			if err := os.WriteFile(filepath.Join(dir, ".new"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, ".new"), name); err != nil {
				t.Fatal(err)
			}
		}
		write(file, policyYAML("rf", "deny", "podSelector: {}\npolicyTypes: [Ingress]"))
		follow("rf/deny")
		peer.NS.Unanswered(t, "tcp", web.At(80))

		write(file, policyYAML("rf", "deny", "podSelector: {}\ningress:\n- ports: [{port: 99999}]"))
		lab.Eventually(t, answerWait, func() error {
			for _, p := range s.Status(t).Problems {
				if strings.Contains(p, file+":7: spec.ingress[0].ports[0].port: ") && strings.Contains(p, "stay as they were") {
					return nil
				}
			}
			return fmt.Errorf("problems: %q", s.Status(t).Problems)
		})
		peer.NS.Unanswered(t, "tcp", web.At(80))
		if out := s.Try(t, "policy", "delete", "rf/deny"); out.Code != 1 || !strings.Contains(out.Stderr, file) {
			t.Errorf("a file's policy is deleted, or its file is not named: %+v", out)
		}

		write(file, policyYAML("rf", "deny", "podSelector: {}\ningress:\n- ports: [{port: 80}]"))
		lab.Eventually(t, answerWait, func() error {
			_, err := peer.NS.TryAsk("tcp", web.At(80), lab.Within(lab.Doubt))
			return err
		})
		peer.NS.Unanswered(t, "tcp", web.At(81))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		gone()
		eq(t, "without the file", peer.NS.Ask(t, "tcp", web.At(81)).Name, "web")
	})
}

// The labels of a container say the same in a word, and who may use its published ports; publish --from and --uplink say it of a port.
func TestRulesByLabel(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		front := s.Run(t, "front", alone("rl"))
		other := s.Run(t, "other", alone("rl"))
		db := s.Run(t, "db", alone("rl"), "--label", "ebpfnet.allow-from="+front.Name+":80")
		shut := s.Run(t, "shut", alone("rl"), "--label", "ebpfnet.egress="+db.IP.String()+":80,any:81/udp")
		eq(t, "who may", front.NS.Ask(t, "tcp", db.At(80)).Name, "db")
		front.NS.Unanswered(t, "tcp", db.At(81))
		s.dropped(t, "policy_ingress", 1, func() { other.NS.Unanswered(t, "tcp", db.At(80)) })
		s.dropped(t, "policy_egress", 1, func() { shut.NS.Unanswered(t, "tcp", front.At(80)) })
		eq(t, "udp", shut.NS.Ask(t, "udp", front.At(81)).Name, "front")
		s.dropped(t, "policy_egress", 1, func() { shut.NS.Unanswered(t, "tcp", lab.At("172.17.0.1", 22)) })

		at := lab.At(lab.HostIP, 8092)
		few := s.Run(t, "few", "-p", "8092:80", "--label", "ebpfnet.publish-from="+lab.RouterIP+"/32,198.51.100.0/24")
		eq(t, "who may", s.Router.Ask(t, "tcp", at).Name, "few")
		s.dropped(t, "publish_from", 1, func() { s.Remote.Unanswered(t, "tcp", at) })
		s.dropped(t, "publish_from", 1, func() { other.NS.Unanswered(t, "tcp", at) })
		eq(t, "the host itself", s.NS.Ask(t, "tcp", at).Name, "few")

		s.Ebpfnet(t, "publish", "8093:80", few.Name, "--from", lab.RemoteIP)
		t.Cleanup(func() { s.Try(t, "unpublish", "8093") })
		eq(t, "its own word goes before the label's", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8093)).Name, "few")
		s.dropped(t, "publish_from", 1, func() { s.Router.Unanswered(t, "tcp", lab.At(lab.HostIP, 8093)) })
		if out := s.Ebpfnet(t, "port", "list"); !strings.Contains(out, "active from "+lab.RemoteIP+"/32") {
			t.Errorf("port list does not say who may:\n%s", out)
		}
		s.Ebpfnet(t, "publish", "8094:80", front.Name, "--uplink", "up1")
		t.Cleanup(func() { s.Try(t, "unpublish", "8094") })
		s.dropped(t, "publish_uplink", 1, func() { s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8094)) })
		eq(t, "a container", other.NS.Ask(t, "tcp", lab.At(lab.HostIP, 8094)).Name, "front")
		for _, wrong := range [][]string{{"--from", "10.0.0.0/33"}, {"--from", "web"}} {
			if out := s.Try(t, append([]string{"publish", "8095:80", front.Name}, wrong...)...); out.Code != 2 {
				t.Errorf("publish %v: %+v", wrong, out)
			}
		}
	})
}

// A container that is told an address of the host leaves with it; where the host has not got it, the container does not leave with another.
func TestEgressAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		const mine, nobodys = "192.0.2.77", "192.0.2.78"
		s.NS.IP(t, "addr add "+mine+"/24 dev up0")
		t.Cleanup(func() { s.NS.IP(t, "addr del "+mine+"/24 dev up0") })
		s.Remote.Serve(t, "far", ":7005")
		own := s.Run(t, "own", "--label", "ebpfnet.egress-ip="+mine)
		none := s.Run(t, "none", "--label", "ebpfnet.egress-ip="+nobodys)
		plain := s.Run(t, "plain")
		far := lab.At(lab.RemoteIP, 7005)
		both(t, func(t *testing.T, network string) {
			lab.Eventually(t, answerWait, func() error {
				a, err := own.NS.TryAsk(network, far, lab.Within(lab.Doubt))
				if err == nil && a.Seen().Addr().String() != mine {
					err = fmt.Errorf("it is seen as %s", a.Seen())
				}
				return err
			})
			eq(t, "another", plain.NS.Ask(t, network, far).Seen().Addr().String(), lab.HostIP)
			s.dropped(t, "no_address", 1, func() { none.NS.Unanswered(t, network, far) })
		})
		if p := strings.Join(s.Status(t).Problems, "\n"); !strings.Contains(p, nobodys) {
			t.Errorf("the problems do not name the address that is not there: %s", p)
		}
	})
}

// G-5: an address, or a link-layer address, that is not a container's own takes it nowhere, but where that is allowed.
func TestAllowSpoofing(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		thief := s.Run(t, "thief")
		way := lab.Way{SrcMAC: thief.NS.Device(t, "eth0").HardwareAddr, DstMAC: s.gateway(t), Src: netip.MustParseAddrPort("172.17.99.9:5000"), Dst: lab.AddrPort(lab.RemoteIP, 7000)}
		forged := way
		forged.SrcMAC, forged.Src = []byte{2, 0, 0, 0, 0, 9}, netip.AddrPortFrom(thief.IP, 5000)
		inject := func() {
			thief.NS.Inject(t, "eth0", way.UDP(t, []byte("no address of its own")))
			thief.NS.Inject(t, "eth0", forged.UDP(t, []byte("no link-layer address of its own")))
		}
		s.dropped(t, "spoofed", 2, inject)
		s.Attach(t, append(docker0(), "--allow-spoofing")...)
		before := s.Scrape(t).Dropped("spoofed")
		inject()
		lab.Eventually(t, answerWait, func() error {
			thief.NS.Inject(t, "eth0", forged.UDP(t, []byte("let through")))
			if got := s.Scrape(t).Dropped("spoofed"); got != before {
				return fmt.Errorf("%g packets are dropped as spoofed", got-before)
			}
			return nil
		})
	})
}

// G-5: an address that a container takes while it runs is its own as soon as it uses it.
func TestSecondAddress(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		const second = "172.17.71.1"
		c, b := s.Run(t, "two"), s.Run(t, "neighbour")
		s.Remote.Serve(t, "far", ":7006")
		c.NS.IP(t, "addr add "+second+"/16 dev eth0")
		both(t, func(t *testing.T, network string) {
			for _, to := range []string{b.At(80), lab.At(lab.RemoteIP, 7006)} {
				lab.Eventually(t, answerWait, func() error {
					_, err := c.NS.TryAsk(network, to, lab.From(second+":0"), lab.Within(lab.Doubt))
					return err
				})
			}
			eq(t, "to it", b.NS.Ask(t, network, lab.At(second, 80)).Name, "two")
		})
	})
}
