package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// ForgetSockets deletes what is noted of the host's sockets towards published ports for which stale says so, and gives the cookies of these
// sockets. The socket's protocol is not noted.
func (m *Maps) ForgetSockets(stale func(bpf.SockKey, bpf.Sock) bool) (map[uint64]bool, error) {
	var gone []bpf.SockKey
	err := scan(m.o.Socks4, newBuffer[bpf.SockKey, bpf.Sock](), func(keys []bpf.SockKey, socks []bpf.Sock) (bool, error) {
		for i, k := range keys {
			if stale(k, socks[i]) {
				gone = append(gone, k)
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read map %s: %w", bpf.DatapathMapSocks4, err)
	}
	cookies := make(map[uint64]bool, len(gone))
	for _, k := range gone {
		cookies[k.Cookie] = true
		if err := m.o.Socks4.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("write map %s: %w", bpf.DatapathMapSocks4, err)
		}
	}
	return cookies, nil
}
