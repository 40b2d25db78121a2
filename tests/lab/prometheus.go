package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ScrapeInterval is how often a Prometheus of this package scrapes, and evaluates its rules.
const ScrapeInterval = time.Second

// Prometheus is Debian's prometheus in a namespace.
type Prometheus struct {
	ns     *Netns
	daemon *daemon
	client *http.Client
}

// Sample is one element of an instant vector.
type Sample struct {
	Labels map[string]string
	Value  string // as Prometheus writes it: a number, NaN, +Inf or -Inf
}

const prometheusAddr = "127.0.0.1:9090"

// StartPrometheus runs a Prometheus in the namespace that scrapes these "ip:port" as the job ebpfnet and follows these rule files, until the
// test ends. Flags are Prometheus' own.
func (s *Suite) StartPrometheus(t testing.TB, ns *Netns, rules, targets []string, flags ...string) *Prometheus {
	t.Helper()
	top, err := s.dir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, fmt.Sprintf("prometheus%d", s.next()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := map[string]any{
		"global":     map[string]any{"scrape_interval": ScrapeInterval.String(), "evaluation_interval": ScrapeInterval.String()},
		"rule_files": rules,
		"scrape_configs": []any{map[string]any{
			"job_name": "ebpfnet", "static_configs": []any{map[string]any{"targets": targets}},
		}},
	}
	text, err := json.Marshal(config) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Prometheus{ns: ns, client: &http.Client{Timeout: Patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = ns.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}}
	args := append([]string{"--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", prometheusAddr,
		"--log.level", "warn"}, flags...)
	if p.daemon, err = startDaemon(&s.ledger, ns, filepath.Join(dir, "log"), "prometheus", args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if err := p.daemon.stop(); err != nil {
			t.Errorf("stop prometheus: %v", err)
		}
	})
	Eventually(t, time.Minute, func() error {
		if err := p.daemon.exited(); err != nil {
			return err
		}
		up, err := p.Query("up")
		if err == nil && len(up) < len(targets) {
			err = fmt.Errorf("%d of %d targets have been scraped", len(up), len(targets))
		}
		return err
	})
	return p
}

// Query evaluates an expression now.
func (p *Prometheus) Query(expr string) ([]Sample, error) {
	resp, err := p.client.PostForm("http://"+prometheusAddr+"/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	if answer.Status != "success" || answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("query %s: %s %s %s", expr, answer.Status, answer.Data.ResultType, answer.Error)
	}
	var vector []struct {
		Metric    map[string]string
		Value     []any
		Histogram []any
	}
	if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	var all []Sample
	for _, v := range vector {
		s := Sample{Labels: v.Metric}
		for _, pair := range [][]any{v.Value, v.Histogram} {
			if len(pair) == 2 {
				s.Value = strings.TrimSpace(fmt.Sprint(pair[1]))
			}
		}
		all = append(all, s)
	}
	return all, nil
}
