package doctor

import (
	"fmt"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

// checkHooks tells of others' programs where this project's are, or would be. They go on side by side; but what they drop or send elsewhere is
// not seen here, and nobody else counts it.
func (n *network) checkHooks(p loader.Paths) []api.Finding {
	var devices []int
	for _, b := range n.Bridges {
		devices = append(devices, b.Index)
	}
	for _, e := range n.Endpoints {
		devices = append(devices, e.Index)
	}
	for _, u := range n.Uplinks {
		devices = append(devices, u.Index)
	}
	found, err := loader.ForeignPrograms(p, devices)
	if err != nil {
		return []api.Finding{{Level: Note, Check: "hooks", Found: err.Error()}}
	}
	var out []api.Finding
	for _, f := range found {
		finding := api.Finding{Level: Warning, Check: "hooks"}
		if f.Ifindex == 0 {
			finding.Level = Note
			finding.Found = fmt.Sprintf("%s is on %s of the root control group: it may change where the host's own sockets go", f.Program, f.Hook)
			finding.Advice = "`bpftool cgroup show /sys/fs/cgroup` tells more"
		} else {
			name := n.names[f.Ifindex]
			place, _, _ := strings.Cut(f.Hook, " ")
			finding.Found = fmt.Sprintf("%s is on %s of %s: what it drops or sends elsewhere, ebpfnet does not see", f.Program, f.Hook, name)
			finding.Advice = "find out whose it is: `bpftool net show dev " + name + "`"
			if place == "clsact" {
				finding.Advice = "find out whose it is: `tc filter show dev " + name + " " + strings.TrimPrefix(f.Hook, "clsact ") + "`"
			}
		}
		out = append(out, finding)
	}
	for _, name := range n.xdp {
		out = append(out, api.Finding{Level: Note, Check: "hooks", Found: "an XDP program is on " + name + ": it is before ebpfnet, and what it drops or sends elsewhere is not seen",
			Advice: "find out whose it is: `ip -details link show " + name + "`"})
	}
	if len(out) == 0 {
		out = append(out, api.Finding{Level: OK, Check: "hooks", Found: "no programs of others"})
	}
	return out
}
