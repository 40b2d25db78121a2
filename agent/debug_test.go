package agent

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Profiles are served on the unix socket, where they were asked for, and never beside the metrics.
func TestProfiles(t *testing.T) {
	for _, debug := range []bool{false, true} {
		l := newLab(t, dockerHost())
		l.options = func(o *Options) { o.Debug, o.MetricsAddr = debug, "127.0.0.1:0" }
		l.start(false)
		socket := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", l.paths.Socket)
		}}}
		want := map[bool]int{false: http.StatusNotFound, true: http.StatusOK}[debug]
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
			if got := statusOf(t, &socket, "http://agent"+path); got != want {
				t.Errorf("debug %t: %s on the socket: %d, want %d", debug, path, got, want)
			}
			s, err := l.client.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := statusOf(t, http.DefaultClient, strings.TrimSuffix(s.Agent.MetricsURL, "/metrics")+path); got != http.StatusNotFound {
				t.Errorf("debug %t: %s beside the metrics: %d", debug, path, got)
			}
		}
	}
}

// The page is for the host's own users unless it is said otherwise.
func TestWhereThePageIs(t *testing.T) {
	for _, tt := range []struct {
		mode PageMode
		addr string
		want bool
	}{
		{PageAuto, "127.0.0.1:0", true}, {"", "127.0.0.1:0", true}, {PageAuto, "[::1]:0", true},
		{PageAuto, "0.0.0.0:0", false}, {PageOn, "0.0.0.0:0", true}, {PageOff, "127.0.0.1:0", false}, {PageOn, "off", false},
	} {
		l := newLab(t, dockerHost())
		l.options = func(o *Options) { o.Page, o.MetricsAddr = tt.mode, tt.addr }
		l.start(false)
		s, err := l.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Agent.PageURL != ""; got != tt.want {
			t.Errorf("mode %q at %s: %+v", tt.mode, tt.addr, s.Agent)
		}
		if s.Agent.MetricsURL == "" {
			continue
		}
		_, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(s.Agent.MetricsURL, "http://"), "/metrics"))
		host := "127.0.0.1:"
		if strings.HasPrefix(tt.addr, "[::1]") {
			host = "[::1]:"
		}
		if got := statusOf(t, http.DefaultClient, "http://"+host+port+"/activity.json"); (got == http.StatusOK) != tt.want {
			t.Errorf("mode %q at %s: activity.json answers %d", tt.mode, tt.addr, got)
		}
	}
}

func statusOf(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
