package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/trace"
	"github.com/ebpfnet/ebpfnet/policy"
)

// traceFlows is how many flow entries a trace copies at the most.
const traceFlows = 1 << 18

// trace says what would become of a packet. The datapath is not changed.
func (a *Agent) trace(r *http.Request) (any, error) {
	var q api.TraceQuery
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, usageError{fmt.Errorf("read request: %w", err)}
	}
	// The maps cannot be closed meanwhile.
	a.tables.RLock()
	defer a.tables.RUnlock()
	if a.dp == nil {
		return nil, errors.New("nothing is attached: no program decides about any packet")
	}
	v := a.view.Load()
	t, err := trace.Plan(trace.World{
		Result: &v.result, Names: a.host.Names, Way: a.host.Way, Device: deviceOf,
		Endpoint: func(name string) (*policy.EndpointView, error) {
			e, err := v.result.Endpoint(name)
			if err != nil {
				err = v.known(err)
			}
			return e, err
		},
	}, q)
	if err != nil {
		var usage trace.UsageError
		if errors.As(err, &usage) {
			err = usageError{err}
		}
		return nil, err
	}
	seeds, err := a.dp.FlowsWith(t.Addrs(), traceFlows)
	if err != nil {
		return nil, err
	}
	return t.Run(a.dp.NewTrial, seeds)
}

func deviceOf(index int) (string, net.HardwareAddr, error) {
	d, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", nil, fmt.Errorf("find device %d: %w", index, err)
	}
	return d.Name, d.HardwareAddr, nil
}

// kernelWay asks the kernel's routing.
func kernelWay(src, dst netip.Addr, from int) (trace.Way, error) {
	o := &netlink.RouteGetOptions{IifIndex: from}
	if src.IsValid() {
		o.SrcAddr = src.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), o)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return trace.Way{None: true}, nil
	case err != nil:
		return trace.Way{}, fmt.Errorf("ask for the route to %s: %w", dst, err)
	case len(routes) == 0:
		return trace.Way{None: true}, nil
	}
	r := routes[0]
	w := trace.Way{Index: r.LinkIndex, Local: r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_BROADCAST}
	if gw, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
		w.Gateway = gw
	}
	if s, ok := netip.AddrFromSlice(r.Src.To4()); ok {
		w.Source = s
	}
	return w, nil
}
