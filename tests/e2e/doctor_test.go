package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// doctor tells of this host what is so: its own programs are nobody else's, docker-proxy processes are there where Docker starts them, and
// what stands in the way has something to do about it.
func TestDoctor(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		s.Run(t, "c", "-p", "8085:80")
		examine := func() []api.Finding {
			var all []api.Finding
			s.JSON(t, &all, "doctor")
			return all
		}
		all := examine()
		of := func(check string) api.Finding {
			i := slices.IndexFunc(all, func(f api.Finding) bool { return f.Check == check })
			if i < 0 {
				t.Fatalf("no finding about %s: %+v", check, all)
			}
			return all[i]
		}
		proxies := "ok"
		if s.World == lab.Default {
			proxies = "note"
		}
		for check, level := range map[string]string{"privileges": "ok", "bpffs": "ok", "docker": "ok", "ip_forward": "ok", "rules": "ok", "hooks": "ok", "mtu": "ok",
			"subnets": "ok", "offloads": "ok", "rp_filter": "ok", "nf_conntrack": "ok", "docker-proxy": proxies} {
			if f := of(check); f.Level != level {
				t.Errorf("%s: %+v, want %s", check, f, level)
			}
		}
		for _, f := range all {
			if f.Level != "ok" && f.Level != "note" && f.Advice == "" {
				t.Errorf("nothing to do about %+v", f)
			}
		}
		if text := s.Ebpfnet(t, "doctor"); !strings.Contains(text, "docker-proxy") || strings.Contains(text, "{") {
			t.Errorf("as a table:\n%s", text)
		}
		s.NS.Run(t, "sysctl", "-qw", "net.ipv4.conf.up1.rp_filter=1", "net.ipv4.conf.all.rp_filter=0")
		t.Cleanup(func() { s.NS.Run(t, "sysctl", "-qw", "net.ipv4.conf.up1.rp_filter=2", "net.ipv4.conf.all.rp_filter=2") })
		all = examine()
		if f := of("rp_filter"); f.Level != "warning" || !strings.Contains(f.Advice, "net.ipv4.conf.up1.rp_filter=2") {
			t.Errorf("strict filtering on one of two uplinks: %+v", f)
		}
	})
}
