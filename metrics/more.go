package metrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// tallies shows what the datapath counts of its own work.
func (s scrape) tallies() {
	f := s.families
	for _, n := range s.view.Expired {
		s.put(f.flowsExpired, float64(n.Count), n.Proto, n.State)
	}
	s.put(f.flowSweeps, float64(s.view.Sweeps))
	s.put(f.flowSweepTime, s.view.SweepTime.Seconds())
	if s.view.Counters == nil {
		return
	}
	t, err := s.view.Counters.Tallies()
	if err == nil && len(t) < int(bpf.DatapathTallyTALLY_MAX) {
		err = fmt.Errorf("%d of %d entries", len(t), bpf.DatapathTallyTALLY_MAX)
	}
	if err != nil {
		s.fail(f.flowsBegun, err)
		return
	}
	for _, n := range []struct {
		family Family
		tally  bpf.Tally
		labels []string
	}{
		{f.flowsBegun, bpf.DatapathTallyTALLY_FLOW_TCP, []string{"tcp"}},
		{f.flowsBegun, bpf.DatapathTallyTALLY_FLOW_UDP, []string{"udp"}},
		{f.flowsBegun, bpf.DatapathTallyTALLY_FLOW_ICMP, []string{"icmp"}},
		{f.flowsBegun, bpf.DatapathTallyTALLY_FLOW_OTHER, []string{"other"}},
		{f.natConflicts, bpf.DatapathTallyTALLY_NAT_CONFLICT, nil},
		{f.natFailures, bpf.DatapathTallyTALLY_NAT_FAILURE, nil},
		{f.fragments, bpf.DatapathTallyTALLY_FRAGMENT_FIRST, []string{"first"}},
		{f.fragments, bpf.DatapathTallyTALLY_FRAGMENT_LATER, []string{"later"}},
		{f.fragmentsHeld, bpf.DatapathTallyTALLY_FRAGMENT_HELD, nil},
		{f.fragmentsReleased, bpf.DatapathTallyTALLY_FRAGMENT_RELEASED, nil},
		{f.icmpErrors, bpf.DatapathTallyTALLY_ICMP_ERROR, nil},
		{f.sockets, bpf.DatapathTallyTALLY_SOCKET, nil},
	} {
		s.put(n.family, float64(t[n.tally]), n.labels...)
	}
	buckets := make(map[float64]uint64)
	var count uint64
	for i, tries := bpf.DatapathTallyTALLY_TRIES_1, 1; i <= bpf.DatapathTallyTALLY_TRIES_128; i, tries = i+1, tries*2 {
		count += t[i]
		buckets[float64(tries)] = count
	}
	s.ch <- prometheus.MustNewConstHistogram(s.descs[f.natTries.Name], count, float64(t[bpf.DatapathTallyTALLY_NAT_TRIES]), buckets)
}

// published shows each published port or range, whatever its number of ports. Two that look alike are one to Prometheus.
func (s scrape) published() {
	if s.view.Counters == nil {
		return
	}
	f := s.families
	shown := make(map[Published]bool)
	for _, p := range s.view.Published {
		key := Published{Spec: p.Spec, Container: p.Container, Proto: p.Proto}
		if p.Slot == 0 || shown[key] {
			continue
		}
		shown[key] = true
		c, err := s.view.Counters.PublishStats(p.Slot)
		if err != nil {
			s.fail(f.publishedConnections, fmt.Errorf("published port %s: %w", p.Spec, err))
			continue
		}
		s.put(f.publishedConnections, float64(c.Connections), p.Spec, p.Container, p.Proto)
		s.put(f.publishedRxPackets, float64(c.Rx.Packets), p.Spec, p.Container, p.Proto)
		s.put(f.publishedRxBytes, float64(c.Rx.Bytes), p.Spec, p.Container, p.Proto)
		s.put(f.publishedTxPackets, float64(c.Tx.Packets), p.Spec, p.Container, p.Proto)
		s.put(f.publishedTxBytes, float64(c.Tx.Bytes), p.Spec, p.Container, p.Proto)
	}
}

func (s scrape) peers() {
	f := s.families
	for _, p := range s.view.Peers {
		s.put(f.peerState, 1, p.Name, p.State)
	}
	if s.view.Counters == nil || len(s.view.Peers) == 0 {
		return
	}
	now, err := s.view.Counters.Now()
	if err != nil {
		s.fail(f.peerSeen, err)
		return
	}
	for _, p := range s.view.Peers {
		c, err := s.view.Counters.PeerStats(p.Host)
		if err != nil {
			s.fail(f.peerRxPackets, fmt.Errorf("peer %s: %w", p.Name, err))
			continue
		}
		s.put(f.peerRxPackets, float64(c.Rx.Packets), p.Name)
		s.put(f.peerRxBytes, float64(c.Rx.Bytes), p.Name)
		s.put(f.peerTxPackets, float64(c.Tx.Packets), p.Name)
		s.put(f.peerTxBytes, float64(c.Tx.Bytes), p.Name)
		if c.Seen != 0 && s.view.TicksPerSecond != 0 {
			ago := time.Duration(now-c.Seen) * time.Second / time.Duration(s.view.TicksPerSecond)
			s.put(f.peerSeen, float64(time.Now().Add(-ago).UnixMilli())/1000, p.Name)
		}
	}
}

func (s scrape) etcd() {
	e := s.view.Etcd
	if e == nil {
		return
	}
	f := s.families
	var connected float64
	if e.Connected {
		connected = 1
	}
	s.put(f.etcdConnected, connected)
	s.put(f.etcdErrors, float64(e.Errors))
	s.put(f.etcdLists, float64(e.Lists))
	s.put(f.etcdRenewals, float64(e.Renewals))
	s.put(f.etcdRejected, float64(e.Rejected))
}

func (s scrape) programs() {
	if s.view.Counters == nil {
		return
	}
	f := s.families
	all, err := s.view.Counters.Programs()
	if err != nil {
		s.fail(f.programRuns, err)
		return
	}
	for _, p := range all {
		s.put(f.programRuns, float64(p.Runs), p.Name)
		s.put(f.programTime, p.Time.Seconds(), p.Name)
	}
}
