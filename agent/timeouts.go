package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/maps"
)

// conntrackSettings is where the kernel's connection tracking has its timeouts, in seconds (Documentation/networking/nf_conntrack-sysctl.rst).
const conntrackSettings = "/proc/sys/net/netfilter"

// hostTimeouts gives the defaults, and in their place what the administrator of this network namespace has set for connection tracking:
// who made idle connections live longer there means it here too. Settings that the kernel does not have are passed over.
func hostTimeouts(dir string) (maps.Timeouts, error) {
	t := maps.DefaultTimeouts()
	for name, timeout := range map[string]*time.Duration{
		"nf_conntrack_tcp_timeout_established": &t.TCPEstablished,
		"nf_conntrack_tcp_timeout_syn_recv":    &t.TCPHandshake,
		"nf_conntrack_tcp_timeout_fin_wait":    &t.TCPClosing,
		"nf_conntrack_tcp_timeout_close":       &t.TCPClosed,
		"nf_conntrack_udp_timeout":             &t.UDPNew,
		"nf_conntrack_udp_timeout_stream":      &t.UDPStream,
		"nf_conntrack_icmp_timeout":            &t.ICMP,
		"nf_conntrack_generic_timeout":         &t.Generic,
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return maps.Timeouts{}, fmt.Errorf("read sysctl %s: %w", name, err)
		}
		seconds, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 31)
		if err != nil {
			return maps.Timeouts{}, fmt.Errorf("read sysctl %s: %w", name, err)
		}
		*timeout = time.Duration(seconds) * time.Second
	}
	return t, nil
}
