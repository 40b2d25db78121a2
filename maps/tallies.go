package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Tallies gives what is counted of the datapath's own work, indexed by bpf.Tally.
func (m *Maps) Tallies() ([]uint64, error) {
	sums := make([]uint64, m.o.Tallies.MaxEntries())
	var cpus []uint64
	for i := range sums {
		if err := m.o.Tallies.Lookup(uint32(i), &cpus); err != nil {
			return nil, fmt.Errorf("read map %s entry %d: %w", bpf.DatapathMapTallies, i, err)
		}
		for _, n := range cpus {
			sums[i] += n
		}
	}
	return sums, nil
}

// PublishSlots is how many published ports and ranges publish_stats has room for, slot 0 included, which stands for none.
func (m *Maps) PublishSlots() int {
	return int(m.o.PublishStats.MaxEntries())
}

// PublishStats gives the counters of the published port or range in a slot.
func (m *Maps) PublishStats(slot uint16) (bpf.PublishCounters, error) {
	var sum bpf.PublishCounters
	var cpus []bpf.PublishCounters
	if err := m.o.PublishStats.Lookup(uint32(slot), &cpus); err != nil {
		return sum, fmt.Errorf("read map %s slot %d: %w", bpf.DatapathMapPublishStats, slot, err)
	}
	for i := range cpus {
		sum.Connections += cpus[i].Connections
		add(&sum.Rx, cpus[i].Rx)
		add(&sum.Tx, cpus[i].Tx)
	}
	return sum, nil
}

// ClearPublishSlot sets the counters of a published port to zero, before another counts there.
func (m *Maps) ClearPublishSlot(slot uint16) error {
	return clearSlots[bpf.PublishCounters](m.o.PublishStats, bpf.DatapathMapPublishStats, uint32(slot), 1)
}

// KeepPeers has packets from and to these hosts counted, and no others'. What is counted already stays. It writes the difference to what it
// left, which Resync makes it look for in the kernel.
func (m *Maps) KeepPeers(hosts map[bpf.AddrKey]bpf.PeerHost) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.keepPeers(hosts); err != nil {
		m.counted = nil
		return err
	}
	return nil
}

func (m *Maps) keepPeers(hosts map[bpf.AddrKey]bpf.PeerHost) error {
	if m.counted == nil {
		if err := m.loadCounted(); err != nil {
			return err
		}
	}
	for k := range m.counted {
		if _, kept := hosts[k]; kept {
			continue
		}
		if err := m.o.PeerStats.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("write map %s: %w", bpf.DatapathMapPeerStats, err)
		}
		delete(m.counted, k)
	}
	n, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("write map %s: %w", bpf.DatapathMapPeerStats, err)
	}
	zero := make([]bpf.PeerCounters, n)
	for k := range hosts {
		if m.counted[k] {
			continue
		}
		if err := m.o.PeerStats.Put(k, zero); err != nil {
			return fmt.Errorf("write map %s: %w", bpf.DatapathMapPeerStats, err)
		}
		m.counted[k] = true
	}
	return nil
}

// loadCounted reads which hosts have counters.
func (m *Maps) loadCounted() error {
	m.counted = make(map[bpf.AddrKey]bool)
	var key bpf.AddrKey
	var cpus []bpf.PeerCounters
	each := m.o.PeerStats.Iterate()
	for each.Next(&key, &cpus) {
		m.counted[key] = true
	}
	if err := each.Err(); err != nil {
		return fmt.Errorf("read map %s: %w", bpf.DatapathMapPeerStats, err)
	}
	return nil
}

// PeerStats gives the counters of another host, by its address, and the tick at which it was heard last; 0 where nothing has been counted.
func (m *Maps) PeerStats(host bpf.AddrKey) (bpf.PeerCounters, error) {
	var sum bpf.PeerCounters
	var cpus []bpf.PeerCounters
	err := m.o.PeerStats.Lookup(host, &cpus)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return sum, nil
	}
	if err != nil {
		return sum, fmt.Errorf("read map %s: %w", bpf.DatapathMapPeerStats, err)
	}
	for _, c := range cpus {
		add(&sum.Rx, c.Rx)
		add(&sum.Tx, c.Tx)
		if c.Seen != 0 && (sum.Seen == 0 || int32(c.Seen-sum.Seen) > 0) {
			sum.Seen = c.Seen
		}
	}
	return sum, nil
}

// Written tells how full the maps are that only programs write and Expire does not walk over.
func (m *Maps) Written() ([]Fill, error) {
	frags, err := count[bpf.DatapathFrag4Key, bpf.DatapathFrag4](m.o.Frags4)
	if err != nil {
		return nil, fmt.Errorf("walk over map %s: %w", bpf.DatapathMapFrags4, err)
	}
	socks, err := count[bpf.SockKey, bpf.Sock](m.o.Socks4)
	if err != nil {
		return nil, fmt.Errorf("walk over map %s: %w", bpf.DatapathMapSocks4, err)
	}
	return []Fill{
		{bpf.DatapathMapFrags4, frags, int(m.o.Frags4.MaxEntries())},
		{bpf.DatapathMapSocks4, socks, int(m.o.Socks4.MaxEntries())},
	}, nil
}

func count[K comparable, V any](m *ebpf.Map) (int, error) {
	n := 0
	err := scan(m, newBuffer[K, V](), func(keys []K, _ []V) (bool, error) {
		n += len(keys)
		return true, nil
	})
	return n, err
}
