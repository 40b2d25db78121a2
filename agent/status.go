package agent

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/policy"
)

func (a *Agent) status() api.Status {
	v := a.view.Load()
	f := a.host.Features
	s := api.Status{
		Instance: a.o.Paths.Instance,
		Version:  a.o.Version,
		Agent:    api.AgentStatus{Running: true, PID: os.Getpid(), MetricsURL: a.metricsURL, PageURL: a.pageURL, Background: a.o.Background},
		Bridges:  v.bridgeStatus(),
		Uplinks:  v.uplinkStatus(f.Hook()),
		Kernel:   api.KernelStatus{Release: f.Release, Hook: f.Hook(), Features: f.Map()},
		Monitors: a.monitor.Subscribers(),
		Problems: slices.Clone(v.problems),
	}
	if a.o.Background {
		s.Agent.Log = a.o.Paths.Log
	}
	s.Overlay = v.overlay
	s.Mode = commonMode(s.Bridges)
	if s.Problems == nil {
		s.Problems = []string{}
	}
	return s
}

// commonMode is the mode of all bridges, "mixed" where they differ, and empty where there are none.
func commonMode(bridges []api.BridgeStatus) string {
	mode := ""
	for _, b := range bridges {
		if mode != "" && mode != b.Mode {
			return "mixed"
		}
		mode = b.Mode
	}
	return mode
}

// summary is the status in a few words, for a service manager.
func (a *Agent) summary() string {
	attached := 0
	for _, b := range a.settled.Bridges {
		if b.Attached {
			attached++
		}
	}
	if attached == 0 {
		return "nothing attached"
	}
	problems := ""
	if n := len(a.view.Load().problems); n > 0 {
		problems = fmt.Sprintf(", %d problems", n)
	}
	return fmt.Sprintf("%d bridges, %d endpoints, %d published ports%s", attached, len(a.settled.Endpoints), len(a.settled.Ports), problems)
}

// pinnedMode is the mode that a bridge was left in. What cannot be read is another version's, which had one.
func pinnedMode(p loader.Paths, ifindex int) string {
	if b, err := loader.PinnedBridge(p, ifindex); err == nil && offloaded(b) {
		return policy.ModeOffload
	}
	return policy.ModeNative
}

// OfflineStatus is the status of an instance without an agent: what its pins and its state file say.
func OfflineStatus(p loader.Paths, version string) (api.Status, error) {
	s := api.Status{Instance: p.Instance, Version: version, Bridges: []api.BridgeStatus{}, Uplinks: []api.UplinkStatus{}, Problems: []string{}}
	s.Kernel.Features = map[string]bool{}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		s.Kernel.Release = unix.ByteSliceToString(uts.Release[:])
	}
	hooks, err := loader.Attached(p)
	if err != nil {
		return s, err
	}
	state, err := LoadState(p.State)
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	devices := map[string]bool{}
	for ifindex, h := range hooks {
		s.Kernel.Hook = h.Kind
		name, err := deviceName(ifindex)
		if err != nil {
			continue // the device is gone
		}
		devices[name] = true
		if slices.Contains(h.Programs, bpf.DatapathProgFromUplink) {
			s.Uplinks = append(s.Uplinks, api.UplinkStatus{Name: name, Hook: h.Kind})
		}
		if slices.Contains(h.Programs, bpf.DatapathProgFromBridge) {
			s.Bridges = append(s.Bridges, api.BridgeStatus{Name: name, Mode: pinnedMode(p, ifindex), Attached: true, Subnets: []string{}})
		}
	}
	for _, b := range state.Intent.Bridges {
		if !devices[b.Name] {
			s.Bridges = append(s.Bridges, api.BridgeStatus{Name: b.Name, Mode: b.Mode, Subnets: []string{}})
		}
	}
	s.Mode = commonMode(s.Bridges)
	switch {
	case len(hooks) > 0:
		s.Problems = append(s.Problems, "no agent runs: the datapath carries traffic as it was left, and new containers are left to the kernel's path")
	case wantsDatapath(state.Intent):
		s.Problems = append(s.Problems, "no agent runs, and the datapath is not attached: `ebpfnet agent` or `ebpfnet attach` puts it back")
	}
	return s, nil
}
