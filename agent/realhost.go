package agent

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/agent/firewall"
	"github.com/ebpfnet/ebpfnet/agent/observe"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/agent/sockets"
	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
)

// realHost is the Host of the running kernel, seen from the process's own network namespace. It is watched until ctx ends.
func realHost(ctx context.Context, o Options) (Host, error) {
	features, err := probe(o.Paths)
	if err != nil {
		return Host{}, err
	}
	names, err := bpf.LoadNames()
	if err != nil {
		return Host{}, err
	}
	said, err := loadRemembered(o.Paths.Docker)
	if err != nil {
		o.Log.Warn("go on without it", "error", err)
	}
	observer, err := observe.New(observe.Config{
		DockerHost: o.DockerHost, Containers: said.Containers, Networks: said.Networks, Rules: lookAtRules, Log: o.Log,
	})
	if err != nil {
		return Host{}, err
	}
	go func() {
		defer observer.Close()
		if err := observer.Run(ctx); err != nil {
			o.Log.Error("no events: changes are seen at the next resync only", "error", err)
		}
	}()
	settings := o.Settings
	settings.Overlay = o.Overlay.wanted()
	return Host{
		Observer: observer,
		LoadDatapath: func() (Datapath, error) {
			return loadKernelDatapath(o.Paths, features, settings, o.Asked, o.Log)
		},
		RemoveDatapath:  func() error { return loader.RemoveAll(o.Paths) },
		RemoveOverlay:   func() error { return removeOverlay(tunnel.Kernel{}, o.Paths) },
		EndUDP:          sockets.EndUDP,
		Listening:       listenedOn,
		DeviceExists:    deviceExists,
		Forwards:        forwards,
		BridgePorts:     bridgePorts,
		Inside:          observe.Inside,
		Overlay:         tunnel.Kernel{},
		FDB:             kernelFDB{&netlink.Handle{}},
		OpenConntrack:   openConntrack,
		ListenConntrack: func() (offload.Events, error) { return conntrack.Listen() },
		Route:           kernelRoute,
		Way:             kernelWay,
		Features:        features,
		Names:           names,
	}, nil
}

// forwards reads the setting that bpf_fib_lookup obeys as the stack does.
func forwards() (bool, error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return false, fmt.Errorf("read ip_forward: %w", err)
	}
	return strings.TrimSpace(string(b)) != "0", nil
}

// lookAtRules reads netfilter's rules, and IPsec's.
func lookAtRules(ctx context.Context) (observe.Netfilter, error) {
	report, err := firewall.Inspect(ctx)
	if err != nil {
		return observe.Netfilter{}, err
	}
	seen := observe.Netfilter{Docker: report.Bridges(), IPsec: report.IPsec}
	for _, r := range report.Foreign {
		seen.Foreign = append(seen.Foreign, r.String())
	}
	return seen, nil
}

// ForeignRules lists the rules of this network namespace that are not Docker's own and could decide over forwarded traffic.
func ForeignRules(ctx context.Context) ([]string, error) {
	seen, err := lookAtRules(ctx)
	return seen.Foreign, err
}
