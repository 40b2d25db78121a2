package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/policy"
)

// readInt reads a number below /proc/sys.
func readInt(root, path string) (int, error) {
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// rpFilter looks for strict reverse path filtering (RFC 3704) where a packet may rightly come in by another device than answers leave by.
func rpFilter(root string, uplinks []policy.Uplink) []api.Finding {
	all, err := readInt(root, "net/ipv4/conf/all/rp_filter")
	if err != nil {
		return []api.Finding{{Level: Warning, Check: "rp_filter", Found: err.Error()}}
	}
	var out []api.Finding
	for _, u := range uplinks {
		own, err := readInt(root, "net/ipv4/conf/"+u.Name+"/rp_filter")
		if err != nil || max(all, own) != 1 || len(uplinks) < 2 {
			continue // the larger of the two holds; 2 is loose
		}
		out = append(out, api.Finding{Level: Warning, Check: "rp_filter",
			Found: fmt.Sprintf("strict on %s, and there are %d ways out: what comes in by one and is answered by another is dropped, uncounted",
				u.Name, len(uplinks)),
			Advice: "`sysctl -w net.ipv4.conf." + strings.ReplaceAll(u.Name, ".", "/") + ".rp_filter=2`"})
	}
	if len(out) == 0 {
		out = append(out, api.Finding{Level: OK, Check: "rp_filter", Found: "nothing is dropped for coming in by another way"})
	}
	return out
}

// conntrack looks at how full the kernel's connection tracking is: over Docker's rules, and for the host's own connections, it is in the way.
func conntrack(root string) api.Finding {
	count, err := readInt(root, "net/netfilter/nf_conntrack_count")
	if os.IsNotExist(err) {
		return api.Finding{Level: OK, Check: "nf_conntrack", Found: "not loaded"}
	}
	limit, lerr := readInt(root, "net/netfilter/nf_conntrack_max")
	if err != nil || lerr != nil || limit <= 0 {
		return api.Finding{Level: OK, Check: "nf_conntrack", Found: fmt.Sprintf("%d connections, no limit that can be read", count)}
	}
	f := api.Finding{Level: OK, Check: "nf_conntrack", Found: fmt.Sprintf("%d of %d connections", count, limit)}
	if count >= limit*8/10 {
		f.Level = Warning
		f.Found += ": when it is full the kernel drops every new one that passes netfilter"
		f.Advice = fmt.Sprintf("`sysctl -w net.netfilter.nf_conntrack_max=%d`", 2*limit)
	}
	return f
}
