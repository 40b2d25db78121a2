package agent

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
)

func (k *kernelDatapath) ClearPublishSlot(slot uint16) error { return k.maps.ClearPublishSlot(slot) }

func (k *kernelDatapath) KeepPeers(hosts map[bpf.AddrKey]bpf.PeerHost) error {
	return k.maps.KeepPeers(hosts)
}

func (k *kernelDatapath) PublishStats(slot uint16) (bpf.PublishCounters, error) {
	return k.maps.PublishStats(slot)
}

func (k *kernelDatapath) PeerStats(host bpf.AddrKey) (bpf.PeerCounters, error) {
	return k.maps.PeerStats(host)
}

func (k *kernelDatapath) Tallies() ([]uint64, error)    { return k.maps.Tallies() }
func (k *kernelDatapath) Written() ([]maps.Fill, error) { return k.maps.Written() }

// Programs tells how often each program has run and for how long: only while the kernel counts that (sysctl kernel.bpf_stats_enabled).
func (k *kernelDatapath) Programs() ([]metrics.Program, error) {
	var all []metrics.Program
	for name, p := range k.ProgramsByName() {
		s, err := programStats(p)
		if err != nil {
			return nil, fmt.Errorf("read statistics of program %s: %w", name, err)
		}
		if s.RunCount > 0 {
			all = append(all, metrics.Program{Name: name, Runs: s.RunCount, Time: s.Runtime})
		}
	}
	slices.SortFunc(all, func(a, b metrics.Program) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// programStats reads the kernel's statistics of a program.
func programStats(p *ebpf.Program) (*ebpf.ProgramStats, error) { return p.Stats() }
