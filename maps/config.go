package maps

import (
	"fmt"
	"math"
	"time"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Timeouts say how long a flow may be idle before it is forgotten.
type Timeouts struct {
	TCPEstablished time.Duration
	TCPHandshake   time.Duration // the third packet has not been seen
	TCPClosing     time.Duration // one side has said that it is done
	TCPClosed      time.Duration // both have, or one has given up
	UDPNew         time.Duration // without an answer, or without a second question
	UDPStream      time.Duration
	ICMP           time.Duration
	Generic        time.Duration // any other protocol
}

// DefaultTimeouts are near to those of the kernel's connection tracking, which Docker's users know: an idle connection outlives the two
// hours after which TCP asks whether its peer is still there (tcp_keepalive_time). They are shorter where the kernel waits for stray
// packets of a closed connection: such a connection would only keep its place in the table from those that are idle but alive.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCPEstablished: 5 * 24 * time.Hour,
		TCPHandshake:   60 * time.Second,
		TCPClosing:     120 * time.Second,
		TCPClosed:      10 * time.Second,
		UDPNew:         30 * time.Second,
		UDPStream:      180 * time.Second,
		ICMP:           30 * time.Second,
		Generic:        600 * time.Second,
	}
}

// Config reads the configuration that is in force. Its timeouts are in ticks.
func (m *Maps) Config() (bpf.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config()
}

func (m *Maps) config() (bpf.Config, error) {
	var cfg bpf.Config
	if err := m.o.Config.Lookup(uint32(0), &cfg); err != nil {
		return bpf.Config{}, fmt.Errorf("read map %s: %w", bpf.DatapathMapConfig, err)
	}
	return cfg, nil
}

// MoveEpoch has every flow looked at anew when its next packet comes.
func (m *Maps) MoveEpoch() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	cfg, err := m.config()
	if err != nil {
		return err
	}
	cfg.Epoch = nextEpoch(cfg.Epoch)
	return m.setConfig(cfg)
}

func (m *Maps) setConfig(cfg bpf.Config) error {
	if err := m.o.Config.Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write map %s: %w", bpf.DatapathMapConfig, err)
	}
	return nil
}

// SetTimeouts puts timeouts in force. They are at least a tick long, and at most half of the time in which ticks wrap.
func (m *Maps) SetTimeouts(t Timeouts, ticksPerSecond uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	cfg, err := m.config()
	if err != nil {
		return err
	}
	ticks := func(d time.Duration) uint32 {
		n := d.Seconds() * float64(ticksPerSecond)
		return uint32(min(max(n, 1), math.MaxInt32))
	}
	was := cfg
	cfg.TcpEstablished = ticks(t.TCPEstablished)
	cfg.TcpHandshake = ticks(t.TCPHandshake)
	cfg.TcpClosing = ticks(t.TCPClosing)
	cfg.TcpClosed = ticks(t.TCPClosed)
	cfg.UdpNew = ticks(t.UDPNew)
	cfg.UdpStream = ticks(t.UDPStream)
	cfg.Icmp = ticks(t.ICMP)
	cfg.Generic = ticks(t.Generic)
	if cfg == was {
		return nil
	}
	return m.setConfig(cfg)
}

// SetReservedPorts says which ports no masqueraded flow may leave with, in place of those that were said before.
func (m *Maps) SetReservedPorts(ports []uint16) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bits [1024]uint64
	for _, p := range ports {
		bits[p/64] |= 1 << (p % 64)
	}
	for i, word := range bits {
		var have uint64
		if err := m.o.ReservedPorts.Lookup(uint32(i), &have); err != nil {
			return fmt.Errorf("read map %s: %w", bpf.DatapathMapReservedPorts, err)
		}
		if have == word {
			continue
		}
		if err := m.o.ReservedPorts.Put(uint32(i), word); err != nil {
			return fmt.Errorf("write map %s: %w", bpf.DatapathMapReservedPorts, err)
		}
	}
	return nil
}

// Notes reads what the programs note for themselves.
func (m *Maps) Notes() (bpf.DatapathNotes, error) {
	var n bpf.DatapathNotes
	if err := m.o.Notes.Lookup(uint32(0), &n); err != nil {
		return n, fmt.Errorf("read map %s: %w", bpf.DatapathMapNotes, err)
	}
	return n, nil
}
