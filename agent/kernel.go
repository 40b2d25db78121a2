package agent

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/monitor"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// kernelDatapath is the Datapath of the running kernel.
type kernelDatapath struct {
	*loader.Datapath
	maps *maps.Maps
	log  *slog.Logger
}

// loadKernelDatapath loads programs and maps and puts the settings in force that are in maps. Of the sizes only those that are asked for, by
// name, are given to tables that are there already.
func loadKernelDatapath(p loader.Paths, f loader.Features, s loader.Settings, asked []string, log *slog.Logger) (Datapath, error) {
	s, _, err := s.Kept(p, asked...)
	if err != nil {
		return nil, fmt.Errorf("read sizes of the tables: %w", err)
	}
	dp, err := loader.Load(p, f, s)
	if err != nil {
		return nil, err
	}
	if n := dp.Migrated(); n > 0 {
		log.Info("maps of another version taken over", "entries", n)
	}
	k := &kernelDatapath{Datapath: dp, maps: maps.New(&dp.TC.DatapathMaps), log: log}
	if err := k.takeSettings(); err != nil {
		dp.Close()
		return nil, err
	}
	return k, nil
}

func (k *kernelDatapath) Load() (maps.State, error) { return k.maps.Load() }

// Sync also takes over the administrator's settings, for which there is no event.
func (k *kernelDatapath) Sync(want maps.State, verify bool) error {
	sync := k.maps.Sync
	if verify {
		sync = k.maps.Resync
		if err := k.takeSettings(); err != nil {
			return err
		}
	}
	changes, err := sync(want)
	if changes.Any() {
		k.log.Info("maps written", "changes", changes.String(), "epoch", changes.Epoch)
	}
	return err
}

// takeSettings puts the host's own settings into the maps: how long flows live, and which ports no flow may leave with.
func (k *kernelDatapath) takeSettings() error {
	timeouts, err := hostTimeouts(conntrackSettings)
	if err != nil {
		return err
	}
	if err := k.maps.SetTimeouts(timeouts, k.Datapath.Features().TicksPerSecond); err != nil {
		return err
	}
	return k.reservePorts()
}

func (k *kernelDatapath) reservePorts() error {
	ports, err := reservedPorts("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return err
	}
	return k.maps.SetReservedPorts(ports)
}

func (k *kernelDatapath) Events() (monitor.Source, error) { return k.OpenEvents() }

func (k *kernelDatapath) Slots() policy.Slots {
	return policy.Slots{Endpoints: k.maps.EndpointSlots(), Bridges: k.maps.BridgeSlots(), Published: k.maps.PublishSlots()}
}

func (k *kernelDatapath) ClearEndpointSlot(slot uint16) error { return k.maps.ClearEndpointSlot(slot) }
func (k *kernelDatapath) ClearBridgeSlot(slot uint16) error   { return k.maps.ClearBridgeSlot(slot) }

func (k *kernelDatapath) PathStats(slot uint16) ([]bpf.Counter, error) { return k.maps.PathStats(slot) }
func (k *kernelDatapath) DropStats() ([]bpf.Counter, error)            { return k.maps.DropStats() }
func (k *kernelDatapath) PassStats() ([]bpf.Counter, error)            { return k.maps.PassStats() }

func (k *kernelDatapath) EndpointStats(slot uint16) (bpf.EndpointCounters, error) {
	return k.maps.EndpointStats(slot)
}

func (k *kernelDatapath) DeleteFlowsOf(ids map[uint32]bool) (map[uint8]int, error) {
	return k.maps.DeleteFlowsOf(ids)
}

func (k *kernelDatapath) ForgetSockets(stale func(bpf.SockKey, bpf.Sock) bool) (map[uint64]bool, error) {
	return k.maps.ForgetSockets(stale)
}

func (k *kernelDatapath) Config() (bpf.Config, error)             { return k.maps.Config() }
func (k *kernelDatapath) Flows(fn func(*maps.FlowRow) bool) error { return k.maps.Flows(fn) }
func (k *kernelDatapath) Fill() []maps.Fill                       { return k.maps.Fill() }

func (k *kernelDatapath) MoveEpoch() error                             { return k.maps.MoveEpoch() }
func (k *kernelDatapath) Flow(key bpf.FlowKey) (bpf.Flow, bool, error) { return k.maps.Flow(key) }

func (k *kernelDatapath) DeleteFlow(key bpf.FlowKey, match func(*bpf.Flow) bool) (bool, error) {
	return k.maps.DeleteFlow(key, match)
}

func (k *kernelDatapath) DeleteFlows(match func(*bpf.FlowKey, *bpf.Flow) bool) (int, error) {
	return k.maps.DeleteFlows(match)
}

func (k *kernelDatapath) Adopt(a *maps.Adoption) (bool, error) { return k.maps.Adopt(a) }
func (k *kernelDatapath) BeginNothing(bridges map[uint32]bool) error {
	return k.maps.BeginNothing(bridges)
}

func (k *kernelDatapath) FlowEntries(fn func(*bpf.FlowKey, *bpf.Flow)) error {
	return k.maps.FlowEntries(fn)
}

func (k *kernelDatapath) FlowsWith(addrs map[uint32]bool, most int) ([]maps.FlowEntry, error) {
	return k.maps.FlowsWith(addrs, most)
}

func (k *kernelDatapath) Expire(now uint32, cfg bpf.Config) (maps.Sweep, error) {
	return k.maps.Expire(now, cfg)
}

// reservedPorts reads net.ipv4.ip_local_reserved_ports (Documentation/networking/ip-sysctl.rst): ports and ranges with commas between.
func reservedPorts(path string) ([]uint16, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read reserved ports: %w", err)
	}
	var ports []uint16
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		if part == "" {
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, ferr := strconv.ParseUint(first, 10, 16)
		to, terr := strconv.ParseUint(last, 10, 16)
		if ferr != nil || terr != nil {
			return nil, fmt.Errorf("read reserved ports: %q is no range of ports", part)
		}
		for p := from; p <= to; p++ {
			ports = append(ports, uint16(p))
		}
	}
	return ports, nil
}
