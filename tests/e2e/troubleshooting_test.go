package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// docs/troubleshooting.md says what the commands print when something is wrong. Here each of these things goes wrong, and they print that;
// `-v` shows what the page was
// written from.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	suite.Require(t)
	h := suite.NewHost(t, lab.Native)
	s := site{h, h.Instance(t)}
	s.Attach(t, docker0()...)
	web := s.Run(t, "web", "-p", "8080:80", "-p", "8081:99")
	client := s.Run(t, "client")
	// prints demands lines of what a command prints, each a pattern.
	prints := func(t *testing.T, patterns []string, args ...string) {
		t.Helper()
		o := s.Try(t, args...)
		text := o.Stdout + o.Stderr
		t.Logf("$ ebpfnet %s\n%s", strings.Join(args, " "), text)
		for _, p := range patterns {
			if !regexp.MustCompile(`(?m)` + strings.ReplaceAll(p, " +", `\s+`)).MatchString(text) {
				t.Errorf("ebpfnet %s prints nothing like %s:\n%s", strings.Join(args, " "), p, text)
			}
		}
	}
	drops := func(t *testing.T, reason string) {
		t.Helper()
		lab.Eventually(t, lab.Patience, func() error {
			if s.Scrape(t).Dropped(reason) == 0 {
				return fmt.Errorf("nothing is counted as %s", reason)
			}
			return nil
		})
	}

	t.Run("forwarding is off", func(t *testing.T) {
		s.NS.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=0")
		s.Attach(t, docker0()...) // or the next look, some seconds later
		prints(t, []string{`^problem: net\.ipv4\.ip_forward is 0, so no container reaches anything beyond the host: .sysctl -w net\.ipv4\.ip_forward=1.`}, "status")
		prints(t, []string{`^warning +ip_forward +off`}, "doctor")
		s.NS.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
		s.Attach(t, docker0()...)
	})
	t.Run("nobody answers outside", func(t *testing.T) {
		client.NS.Send(t, lab.At(lab.RemoteIP, 7123), []byte("is anybody there?"))
		prints(t, []string{`^udp +out +new +172\.17\.0\.3:\d+>203\.0\.113\.2:7123 +192\.0\.2\.1:\d+>203\.0\.113\.2:7123 +` + client.Name + ` +1 `}, "flow", "list", "--container", client.Name)
		prints(t, []string{`^route default via 172\.17\.0\.1 dev eth0`, `^container +eth0 +\d+ +up +1500`}, "endpoint", "get", client.Name)
	})
	t.Run("an internal network", func(t *testing.T) {
		network, _ := s.attachNetwork(t, "internal", "--internal", "--subnet", "10.66.7.0/24", "--gateway", "10.66.7.1")
		inner := s.Run(t, "inner", "--network", network)
		inner.NS.IP(t, "route replace default via 10.66.7.1")
		s.Remote.Serve(t, "far", ":7000")
		inner.NS.Unanswered(t, "udp", lab.At(lab.RemoteIP, 7000))
		drops(t, "internal")
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					inner.NS.Send(t, lab.At(lab.RemoteIP, 7000), []byte("out"))
				}
			}
		}()
		prints(t, []string{`; dropped [1-9][0-9.]*/s \(internal\)$`, inner.Name + ` +br-[0-9a-f]+ +10\.66\.7\.\d+ .* [1-9][0-9.]*/s$`}, "top", "--once", "--sort", "drops")
		close(stop)
		<-done
	})
	t.Run("published ports", func(t *testing.T) {
		stopped := s.Run(t, "stopped")
		s.Publish(t, "8082:80", stopped.Name)
		stopped.Stop(t)
		lab.Eventually(t, lab.Patience, func() error {
			if o := s.Try(t, "port", "list"); !strings.Contains(o.Stdout, "inactive") {
				return fmt.Errorf("%s", o.Stdout)
			}
			return nil
		})
		prints(t, []string{`^0\.0\.0\.0:8080 +tcp +` + web.Name + ` +172\.17\.0\.2:80 +docker +active`, `^0\.0\.0\.0:8082 +tcp +` + stopped.Name + ` +:80 +user +inactive`}, "port", "list")
		if _, err := s.Remote.TryAsk("tcp", lab.At(lab.HostIP, 8081)); err == nil {
			t.Error("a port that nobody listens on is answered")
		}
		prints(t, []string{`^tcp +in +clos(ing|ed) +203\.0\.113\.2:\d+>192\.0\.2\.1:8081 +203\.0\.113\.2:\d+>172\.17\.0\.2:99 +` + web.Name}, "flow", "list", "--container", web.Name)
		s.NS.Serve(t, "host", ":8090")
		prints(t, []string{`port 8090 is listened on by .* on the host`}, "publish", "8090:80", web.Name)
		s.Router.IP(t, "route add "+lab.BridgeNet+" via "+lab.HostIP)
		s.Remote.Unanswered(t, "udp", web.At(80))
		drops(t, "direct")
	})
	t.Run("what would become of a packet", func(t *testing.T) {
		prints(t, []string{`^source +hidden behind 192\.0\.2\.1, with its own port$`, `^route +by up0 to 192\.0\.2\.254$`, `^verdict +forward: out of up0 to 192\.0\.2\.254$`},
			"trace", "--from", client.Name, "--to", lab.At(lab.RemoteIP, 443))
		prints(t, []string{`^published port +192\.0\.2\.1:8080 leads to 172\.17\.0\.2:80$`, `^verdict +forward: into container ` + web.Name + ` by veth`},
			"trace", "--from", "wire", "--from-addr", lab.RemoteIP, "--to", lab.At(lab.HostIP, 8080))
		prints(t, []string{`^verdict +drop, reason direct$`}, "trace", "--from", "wire", "--from-addr", lab.RemoteIP, "--to", web.At(80))
		prints(t, []string{`^kernel +takes it for the host itself$`}, "trace", "--from", "wire", "--from-addr", lab.RemoteIP, "--to", lab.At(lab.HostIP, 22))
	})
	t.Run("packets as they are decided about", func(t *testing.T) {
		w := s.watch(t)
		lines := &watcher{cmd: s.Command(context.Background(), "monitor")}
		var out bytes.Buffer
		lines.cmd.Stdout = &out
		lines.start(t)
		s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080))
		spoof(t, s, client, web, 1)
		s.Remote.Unanswered(t, "udp", web.At(80))
		w.find(t, "drop", func(e api.Event) bool { return e.Reason == "direct" && e.To == web.Name })
		w.find(t, "drop", func(e api.Event) bool { return e.Reason == "spoofed" && e.From == client.Name })
		if err := lines.stop(); err != nil {
			t.Error(err)
		}
		t.Logf("$ ebpfnet monitor\n%s", out.String())
		for _, p := range []string{
			` forward +from_uplink +up0 +tcp 203\.0\.113\.2:\d+>192\.0\.2\.1:8080 as 203\.0\.113\.2:\d+>172\.17\.0\.2:80 \(- to ` + web.Name + `\) path in \d+ bytes$`,
			` drop spoofed +from_container +veth\w+ +udp 172\.17\.0\.2:5000>203\.0\.113\.2:7000 \(` + client.Name + ` to -\) \d+ bytes$`,
			` drop direct +from_uplink +up0 +udp `,
		} {
			if !regexp.MustCompile(`(?m)` + p).MatchString(out.String()) {
				t.Errorf("monitor prints nothing like %s", p)
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		prints(t, []string{`^NAME +BRIDGE +ADDRESS +RECEIVE +TRANSMIT +PACKETS IN +PACKETS OUT +FLOWS +DROPS`}, "top", "--once")
		s.NS.IP(t, "link set up0 mtu 1400")
		prints(t, []string{`^warning +mtu +docker0 has 1500 and the uplink up0 has 1400`}, "doctor")
		text := s.NS.Run(t, "curl", "-s", s.Status(t).Agent.MetricsURL)
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "ebpfnet_dropped_packets_total") || strings.HasPrefix(line, "ebpfnet_kernel_packets_total") {
				if !strings.HasSuffix(line, " 0\n") {
					t.Log(strings.TrimSpace(line))
				}
			}
		}
	})
}

// Every reason has its line in docs/troubleshooting.md, and no other has.
func TestReasonsAreDocumented(t *testing.T) {
	names, err := bpf.LoadNames()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string][]string{"## Reasons of drops": names.Drops[1:], "## Reasons for leaving a packet to the kernel": names.Passes[1:]} {
		_, rest, ok := strings.Cut(string(page), heading+"\n")
		if !ok {
			t.Fatalf("no %q", heading)
		}
		section, _, _ := strings.Cut(rest, "\n## ")
		var got []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(section, -1) {
			got = append(got, m[1])
		}
		if g, w := strings.Join(got, " "), strings.Join(want, " "); g != w {
			t.Errorf("%s\n got %s\nwant %s", heading, g, w)
		}
	}
}
