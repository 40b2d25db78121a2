package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Metrics is one scrape: a sample's name with its labels, as written, to its value.
type Metrics map[string]float64

// Metrics scrapes the agent from inside the host's namespace.
func (in *Instance) Metrics() (Metrics, error) {
	o, err := in.try("-o", "json", "status")
	if err != nil {
		return nil, err
	}
	var s api.Status
	if err := json.Unmarshal([]byte(o.Stdout), &s); err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	if s.Agent.MetricsURL == "" {
		return nil, fmt.Errorf("the agent of %s serves no metrics", in.Name)
	}
	client := http.Client{Timeout: Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = in.Host.NS.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	resp, err := client.Get(s.Agent.MetricsURL)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	m := Metrics{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		if m[line[:i]], err = strconv.ParseFloat(line[i+1:], 64); err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
	}
	return m, nil
}

// Scrape is Metrics for what must succeed.
func (in *Instance) Scrape(t testing.TB) Metrics {
	t.Helper()
	m, err := in.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Sum adds the samples of a metric whose labels include all of those given, each as `name="value"`.
func (m Metrics) Sum(name string, labels ...string) float64 {
	var total float64
	for sample, v := range m {
		base, rest, _ := strings.Cut(sample, "{")
		if base != name {
			continue
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			total += v
		}
	}
	return total
}

// Forwarded is the number of packets delivered by a path, on all bridges.
func (m Metrics) Forwarded(path string) float64 {
	return m.Sum("ebpfnet_forwarded_packets_total", `path="`+path+`"`)
}

// Dropped is the number of packets dropped for a reason.
func (m Metrics) Dropped(reason string) float64 {
	return m.Sum("ebpfnet_dropped_packets_total", `reason="`+reason+`"`)
}

// nonzero lists the datapath's counters that have counted.
func (m Metrics) nonzero() string {
	var lines []string
	for sample, v := range m {
		if strings.HasPrefix(sample, "ebpfnet_") && strings.Contains(sample, "_packets_total") && v != 0 {
			lines = append(lines, fmt.Sprintf("%s %g", sample, v))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Settled waits until the counters have not moved between two scrapes, and returns the last.
func (in *Instance) Settled(t testing.TB) Metrics {
	t.Helper()
	last := in.Scrape(t)
	Eventually(t, 5*time.Second, func() error {
		next := in.Scrape(t)
		before := last
		last = next
		if next.nonzero() != before.nonzero() {
			return fmt.Errorf("packets still flow")
		}
		return nil
	})
	return last
}
