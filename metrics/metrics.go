package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Metrics is a registry of its own with everything that the agent shows.
type Metrics struct {
	registry *prometheus.Registry
	duration prometheus.Histogram
	errors   prometheus.Counter
	log      *slog.Logger
}

// New makes the metrics of an agent of the given version, reading from src at each scrape.
func New(version string, src Source, log *slog.Logger) (*Metrics, error) {
	names, err := bpf.LoadNames()
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	f := families()
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		log:      log,
		// Both kinds: buckets for any Prometheus, the native histogram for one that asks for it.
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                            f.reconcileDuration.Name,
			Help:                            f.reconcileDuration.Help,
			Buckets:                         prometheus.ExponentialBuckets(0.001, 2, 14),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: f.reconcileErrors.Name, Help: f.reconcileErrors.Help}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        f.buildInfo.Name,
		Help:        f.buildInfo.Help,
		ConstLabels: prometheus.Labels{f.buildInfo.Labels[0]: version, f.buildInfo.Labels[1]: runtime.Version()},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		newCollector(f, names, src), m.duration, m.errors, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("make metrics: %w", err)
		}
	}
	return m, nil
}

// ObserveReconcile counts one run of the agent's loop, and its error where it ended in one.
func (m *Metrics) ObserveReconcile(d time.Duration, err error) {
	m.duration.Observe(d.Seconds())
	if err != nil {
		m.errors.Inc()
	}
}

// Handler answers scrapes. A counter that cannot be read is logged and left out; the rest is shown.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:      errorLog{m.log},
		ErrorHandling: promhttp.ContinueOnError,
		Registry:      m.registry,
		// One scrape at a time is enough; a second one shares its answer.
		CoalesceGather: true,
	})
}

// errorLog gives promhttp's errors to slog.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Warn("scrape", "error", fmt.Sprint(v...)) }
