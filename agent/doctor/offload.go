package doctor

import (
	"fmt"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// breakage is a feature that is known to break something when it is on.
type breakage struct {
	driver  string // empty: any
	feature string // as the kernel names it
	ethtool string // as `ethtool -K` takes it
	below   [2]int // kernels before this one only; zero: any
	what    string
}

// breakages are the ones that administrators of container networks have met again and again.
func breakages() []breakage {
	vxlan := "VXLAN packets leave with wrong checksums, and the other side drops them"
	return []breakage{
		{driver: "vmxnet3", feature: "tx-checksum-ip-generic", ethtool: "tx-checksum-ip-generic", what: vxlan},
		{driver: "vmxnet3", feature: "tx-udp_tnl-segmentation", ethtool: "tx-udp_tnl-segmentation", what: vxlan},
		{driver: "vmxnet3", feature: "tx-udp_tnl-csum-segmentation", ethtool: "tx-udp_tnl-csum-segmentation", what: vxlan},
		{feature: "rx-lro", ethtool: "lro", what: "packets are put together for good, longer than what forwards them may send"},
		{feature: "rx-gro-list", ethtool: "rx-gro-list", below: [2]int{6, 16}, what: "packets that were put together so and are translated or put into VXLAN can stop this kernel"},
	}
}

// checkOffloads judges one device's features on a kernel of the given release.
func checkOffloads(device string, o offloads, release string) []api.Finding {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		major = 0 // whatever is known to break may break here
	}
	var out []api.Finding
	for _, b := range breakages() {
		if !o.on[b.feature] || b.driver != "" && b.driver != o.driver {
			continue
		}
		if b.below != [2]int{} && (major > b.below[0] || major == b.below[0] && minor >= b.below[1]) {
			continue
		}
		out = append(out, api.Finding{Level: Warning, Check: "offloads", Found: fmt.Sprintf("%s (%s) has %s on: %s", device, o.driver, b.ethtool, b.what),
			Advice: fmt.Sprintf("`ethtool -K %s %s off`", device, b.ethtool)})
	}
	return out
}

func (n *network) checkOffloads(release string) []api.Finding {
	var out []api.Finding
	var fine []string
	for _, u := range n.Uplinks {
		o, err := readOffloads(u.Name)
		if err != nil {
			out = append(out, api.Finding{Level: Note, Check: "offloads", Found: err.Error()})
			continue
		}
		found := checkOffloads(u.Name, o, release)
		if len(found) == 0 {
			fine = append(fine, fmt.Sprintf("%s (%s)", u.Name, o.driver))
		}
		out = append(out, found...)
	}
	if len(fine) > 0 {
		out = append(out, api.Finding{Level: OK, Check: "offloads", Found: "none that is known to break anything on " + strings.Join(fine, ", ")})
	}
	return out
}
