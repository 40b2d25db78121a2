package loader

import (
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// PinnedBridge reads what an instance's pinned map says of an attached bridge, for when no agent runs. It needs CAP_BPF.
func PinnedBridge(p Paths, ifindex int) (bpf.Bridge, error) {
	var b bpf.Bridge
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.Maps, bpf.DatapathMapBridges4), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return b, fmt.Errorf("open pinned map %s: %w", bpf.DatapathMapBridges4, err)
	}
	defer m.Close()
	if err := m.Lookup(uint32(ifindex), &b); err != nil {
		return b, fmt.Errorf("read pinned map %s: bridge %d: %w", bpf.DatapathMapBridges4, ifindex, err)
	}
	return b, nil
}
