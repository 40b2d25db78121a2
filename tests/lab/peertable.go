package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
)

// PeerTable is what a host's programs know of the others, read where they read it: to ask the agent takes time, and its own.
type PeerTable struct {
	peers, config *ebpf.Map
}

// PeerTable opens it. The product must be attached. The test's end closes it.
func (in *Instance) PeerTable(t testing.TB) *PeerTable {
	t.Helper()
	open := func(name string) *ebpf.Map {
		m, err := ebpf.LoadPinnedMap(filepath.Join(loader.PathsFor(in.Name).Maps, name), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			t.Fatalf("open map %s of %s: %v", name, in.Name, err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	return &PeerTable{open(bpf.DatapathMapPeers4), open(bpf.DatapathMapConfig)}
}

// Has tells whether a subnet leads to that host, the zero address to none.
func (p *PeerTable) Has(subnet netip.Prefix, host netip.Addr) error {
	var found bpf.Peer
	err := p.peers.Lookup(bpf.PrefixKey{Prefixlen: uint32(subnet.Bits()), Addr: bpf.Addr(subnet.Addr())}, &found)
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist) && !host.IsValid():
		return nil
	case err != nil:
		return fmt.Errorf("peer %s: %w", subnet, err)
	case !host.IsValid() && found.Addr != 0:
		return fmt.Errorf("%s leads somewhere", subnet)
	case host.IsValid() && found.Addr != bpf.Addr(host):
		return fmt.Errorf("%s does not lead to %s", subnet, host)
	}
	return nil
}

// Epoch moves whenever the agent has written anything that packets are judged by.
func (p *PeerTable) Epoch(t testing.TB) uint32 {
	t.Helper()
	var c bpf.Config
	if err := p.config.Lookup(uint32(0), &c); err != nil {
		t.Fatal(err)
	}
	return c.Epoch
}
