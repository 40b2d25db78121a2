package agent

import (
	"context"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/observe"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
)

// realHost is the Host of the running kernel, seen from the process's own network namespace. It is watched until ctx ends.
func realHost(ctx context.Context, o Options) (Host, error) {
	features, err := loader.Probe()
	if err != nil {
		return Host{}, err
	}
	names, err := bpf.LoadNames()
	if err != nil {
		return Host{}, err
	}
	observer, err := observe.New(observe.Config{DockerHost: o.DockerHost, Rules: dockerRules, Log: o.Log})
	if err != nil {
		return Host{}, err
	}
	go func() {
		defer observer.Close()
		if err := observer.Run(ctx); err != nil {
			o.Log.Error("no events: changes are seen at the next resync only", "error", err)
		}
	}()
	return Host{
		Observer:     observer,
		ForeignRules: ForeignRules,
		LoadDatapath: func() (Datapath, error) {
			return loadKernelDatapath(o.Paths, features, o.Settings, o.Log)
		},
		RemoveDatapath: func() error { return loader.RemoveAll(o.Paths) },
		Listening:      listenedOn,
		DeviceExists:   deviceExists,
		BridgePorts:    bridgePorts,
		FDB:            kernelFDB{&netlink.Handle{}},
		Features:       features,
		Names:          names,
	}, nil
}

func dockerRules(context.Context) (func(string) bool, error) {
	return func(string) bool { return false }, nil
}

// ForeignRules lists the netfilter rules of this network namespace that are not Docker's own and that a datapath would bypass.
func ForeignRules(context.Context) ([]string, error) { return nil, nil }
