package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/metrics/dashboards"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Every query of every dashboard, and every recording rule, returns numbers from a Prometheus that scrapes two hosts under traffic.
func TestDashboards(t *testing.T) {
	p := newPair(t, lab.Default, vxlan, "--metrics-addr", "0.0.0.0:9979")
	counting, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME) // or nothing is known of the programs
	if err != nil {
		t.Fatal(err)
	}
	defer counting.Close()
	var targets []string
	for _, h := range p.hosts {
		targets = append(targets, h.IP+":9979")
		h.NS.SetSysctl(t, "net/netfilter/nf_conntrack_udp_timeout", "1") // so that flows are forgotten while the test looks
	}
	rules, err := filepath.Abs("../../metrics/rules")
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(rules, "recording.yml"), filepath.Join(rules, "alerts.yml")}
	usual := suite.StartPrometheus(t, p.segment.Router, files, targets)
	// It keeps histograms of the other kind, and then has no buckets.
	native := suite.StartPrometheus(t, p.segment.Remote, files, targets, "--enable-feature=native-histograms")

	traffic := p.everywhere(t)
	queries := questions(t)
	open := queries
	took := lab.Eventually(t, 3*time.Minute, func() error {
		if err := traffic(); err != nil {
			return err
		}
		var left []question
		var errs []error
		for _, q := range open {
			from := usual
			if q.native {
				from = native
			}
			if err := answered(from, q.Query); err != nil {
				left, errs = append(left, q), append(errs, err)
			}
		}
		open = left
		return errors.Join(errs...)
	})
	if samples, err := native.Query("ebpfnet_reconcile_duration_seconds_bucket"); err != nil || len(samples) != 0 {
		t.Errorf("a Prometheus with native histograms has %d buckets, and was to have none: %v", len(samples), err)
	}
	t.Logf("%d queries are answered after %v", len(queries), took)
}

// question is a query that is open, and which Prometheus is to answer it.
type question struct {
	dashboards.Query
	native bool
}

// questions lists what is asked, each for once.
func questions(t *testing.T) (all []question) {
	t.Helper()
	boards, err := dashboards.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range boards {
		queries, err := d.Queries()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			all = append(all, question{Query: q})
			if strings.Contains(q.Expr, "ebpfnet_reconcile_duration_seconds{") {
				all = append(all, question{Query: q, native: true})
			}
		}
	}
	for _, name := range []string{
		"instance:ebpfnet_forwarded_packets:rate5m", "instance:ebpfnet_forwarded_bytes:rate5m", "instance_reason:ebpfnet_dropped_packets:rate5m",
		"instance_map:ebpfnet_map_fill:ratio",
	} {
		all = append(all, question{Query: dashboards.Query{Where: "recording rules", Expr: name}})
	}
	return all
}

// answered says what is wrong with the answer to a query, or nil.
func answered(p *lab.Prometheus, q dashboards.Query) error {
	interval := 4 * lab.ScrapeInterval // as Grafana chooses it
	samples, err := p.Query(q.PromQL(interval.String()))
	if err != nil {
		return fmt.Errorf("%s: %w", q.Where, err)
	}
	for _, s := range samples {
		if s.Value != "NaN" && s.Value != "" {
			return nil
		}
	}
	return fmt.Errorf("%s: %s: no number among %d samples", q.Where, q.Expr, len(samples))
}

// everywhere makes what sends something on every way that is counted. It is called again and again, and what is lost once is none of its
// business.
func (p *pair) everywhere(t *testing.T) func() error {
	t.Helper()
	p.segment.Remote.Serve(t, "world", lab.RemoteIP+":7000")
	var senders [2]*net.UDPConn
	for i := range senders {
		senders[i] = p.c[i].NS.ListenUDP(t, ":0")
	}
	return func() error {
		var errs []error
		ask := func(from *lab.Netns, network, to string) {
			if _, err := from.TryAsk(network, to, lab.Within(2*time.Second)); err != nil {
				errs = append(errs, fmt.Errorf("ask %s %s: %w", network, to, err))
			}
		}
		send := func(from *net.UDPConn, to string, size int) {
			_, err := from.WriteToUDPAddrPort(make([]byte, size), netip.MustParseAddrPort(to))
			errs = append(errs, err)
		}
		for i, h := range p.hosts {
			ask(p.c[i].NS, "udp", p.c[1-i].At(80))            // through the tunnel
			ask(p.c[i].NS, "udp", lab.At(lab.RemoteIP, 7000)) // out
			ask(p.c[i].NS, "tcp", lab.At(lab.RemoteIP, 7000))
			ask(p.segment.Remote, "tcp", lab.At(h.IP, 8080)) // in
			ask(h.NS, "tcp", lab.At(h.IP, 8080))             // the host's own socket, and its packets
			send(senders[i], "10.200.255.9:9", 1)            // dropped: no host has it
			send(senders[i], lab.At(lab.RemoteIP, 9), 3000)  // in pieces
		}
		return errors.Join(errs...)
	}
}
