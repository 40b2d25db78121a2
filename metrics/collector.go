package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// collector reads the datapath's counters when it is scraped.
type collector struct {
	families familySet
	names    bpf.Names
	src      Source
	descs    map[string]*prometheus.Desc // by metric name
}

func newCollector(f familySet, names bpf.Names, src Source) *collector {
	c := &collector{families: f, names: names, src: src, descs: make(map[string]*prometheus.Desc)}
	for _, family := range f.scraped() {
		c.descs[family.Name] = family.desc()
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := scrape{collector: c, view: c.src.MetricsView(), ch: ch}
	s.reasons()
	s.bridges()
	s.endpoints()
	s.agent()
	s.tallies()
	s.published()
	s.peers()
	s.etcd()
	s.programs()
}

// scrape is one scrape under way.
type scrape struct {
	*collector
	view View
	ch   chan<- prometheus.Metric
}

func (s scrape) put(f Family, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.descs[f.Name], f.valueType(), value, labels...)
}

func (s scrape) fail(f Family, err error) {
	s.ch <- prometheus.NewInvalidMetric(s.descs[f.Name], fmt.Errorf("read %s: %w", f.Name, err))
}

// reasons shows every reason, counted or not, so that a rate over one has a start.
func (s scrape) reasons() {
	none := func() ([]bpf.Counter, error) { return nil, nil }
	drops, passes := none, none
	if c := s.view.Counters; c != nil {
		drops, passes = c.DropStats, c.PassStats
	}
	for _, r := range []struct {
		family Family
		names  []string
		read   func() ([]bpf.Counter, error)
	}{
		{s.families.droppedPackets, s.names.Drops, drops},
		{s.families.kernelPackets, s.names.Passes, passes},
	} {
		counters, err := r.read()
		if err != nil {
			s.fail(r.family, err)
			continue
		}
		for i, name := range r.names {
			if i == 0 { // "none" counts nothing
				continue
			}
			var n uint64
			if i < len(counters) {
				n = counters[i].Packets
			}
			s.put(r.family, float64(n), name)
		}
	}
}

func (s scrape) bridges() {
	f := s.families
	slots := make(map[string]map[uint16]bool)
	for _, e := range s.view.Endpoints {
		if slots[e.Bridge] == nil {
			slots[e.Bridge] = make(map[uint16]bool)
		}
		slots[e.Bridge][e.Slot] = true
	}
	for _, b := range s.view.Bridges {
		s.put(f.bridgeMode, 1, b.Name, b.Mode)
		s.put(f.endpoints, float64(len(slots[b.Name])), b.Name)
		if s.view.Counters == nil {
			continue
		}
		paths, err := s.view.Counters.PathStats(b.Slot)
		if err != nil {
			s.fail(f.forwardedPackets, fmt.Errorf("bridge %s: %w", b.Name, err))
			continue
		}
		for i, n := range paths[:min(len(paths), len(s.names.Paths))] {
			s.put(f.forwardedPackets, float64(n.Packets), b.Name, s.names.Paths[i])
			s.put(f.forwardedBytes, float64(n.Bytes), b.Name, s.names.Paths[i])
		}
	}
}

// endpoints adds up what has the same labels: a container may have two interfaces on one bridge, and Prometheus refuses a whole scrape in
// which two samples look alike. An endpoint with several addresses has one slot, counted once.
func (s scrape) endpoints() {
	if s.view.Counters == nil {
		return
	}
	type labels struct{ container, bridge string }
	sums := make(map[labels]bpf.EndpointCounters)
	read := make(map[uint16]bool)
	f := s.families
	for _, e := range s.view.Endpoints {
		if read[e.Slot] {
			continue
		}
		read[e.Slot] = true
		c, err := s.view.Counters.EndpointStats(e.Slot)
		if err != nil {
			s.fail(f.endpointRxPackets, fmt.Errorf("endpoint %s: %w", e.Container, err))
			continue
		}
		k := labels{e.Container, e.Bridge}
		sums[k] = add(sums[k], c)
	}
	for k, c := range sums {
		s.put(f.endpointRxPackets, float64(c.Rx.Packets), k.container, k.bridge)
		s.put(f.endpointRxBytes, float64(c.Rx.Bytes), k.container, k.bridge)
		s.put(f.endpointRxDropped, float64(c.RxDropped), k.container, k.bridge)
		s.put(f.endpointTxPackets, float64(c.Tx.Packets), k.container, k.bridge)
		s.put(f.endpointTxBytes, float64(c.Tx.Bytes), k.container, k.bridge)
		s.put(f.endpointTxDropped, float64(c.TxDropped), k.container, k.bridge)
	}
}

func add(a, b bpf.EndpointCounters) bpf.EndpointCounters {
	a.Rx.Packets += b.Rx.Packets
	a.Rx.Bytes += b.Rx.Bytes
	a.RxDropped += b.RxDropped
	a.Tx.Packets += b.Tx.Packets
	a.Tx.Bytes += b.Tx.Bytes
	a.TxDropped += b.TxDropped
	return a
}

func (s scrape) agent() {
	f := s.families
	for _, m := range s.view.Maps {
		s.put(f.mapEntries, float64(m.Entries), m.Name)
		s.put(f.mapCapacity, float64(m.Capacity), m.Name)
	}
	for _, n := range s.view.Flows {
		s.put(f.flows, float64(n.Count), n.Proto, n.State)
	}
	s.put(f.publishedPorts, float64(s.view.Ports))
	var connected float64
	if s.view.DockerConnected {
		connected = 1
	}
	s.put(f.dockerConnected, connected)
}
