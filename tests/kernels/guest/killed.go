package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

// killed ends the agent as the kernel would for want of memory. F-10: who is known goes on as before. G-12: under --fail-closed a container that
// comes meanwhile gets nothing and sends nothing; this is decided by the device that a packet came in by, as a kernel alone can tell. The next
// agent knows the container, and puts its programs where the others were. K-1.
func (w *world) killed(f loader.Features) (string, error) {
	attach := []string{"attach", "--bridge", bridge, "--uplink", uplink}
	if err := ebpfnet(nil, append(attach, "--fail-closed")...); err != nil {
		return "", err
	}
	if err := endAgent(); err != nil {
		return "", err
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return "", err
	}
	if err := cable("v-c3", br, w.c3, "eth0", addrC3+"/24"); err != nil {
		return "", err
	}
	if err := w.c3.do(func() error { return defaultRoute(gateway) }); err != nil {
		return "", err
	}
	err = all(
		try{"a container to another", func() error { return w.expect(w.c1, "tcp", addrC2+":80", "c2", addrC1) }},
		try{"a container to the outside", func() error { return w.expect(w.c2, "tcp", outside+":80", "out", hostOut) }},
		try{"a new container to another", func() error { return refusal(w.c3, addrC1) }},
		try{"a new container to the host", func() error { return refusal(w.c3, gateway) }},
		try{"a new container to the outside", func() error { return refusal(w.c3, outside) }},
		try{"a container to a new one", func() error { return refusal(w.c1, addrC3) }},
		try{"the host to a new one", func() error { return refusal(place{}, addrC3) }},
	)
	if err := errors.Join(err, ebpfnet(nil, attach...)); err != nil {
		return "", err
	}
	err = eventually(30*time.Second, func() error { return w.expect(w.c3, "tcp", addrC1+":80", "c1", addrC3) })
	want := fmt.Sprintf("%s ingress 1, egress 1", f.Hook())
	for _, device := range []string{bridge, "v-c1", "v-c2", "v-c3", uplink} {
		if on, e := hooksOf(device); e != nil || on != want {
			err = errors.Join(err, fmt.Errorf("%s has %s, not %s: %v", device, on, want, e))
		}
	}
	return "who is known goes on, who comes waits for the next agent", errors.Join(err, deleteLinks("v-c3"))
}

// endAgent kills the agent and waits until its process is gone.
func endAgent() error {
	var status api.Status
	if err := ebpfnet(&status, "status"); err != nil {
		return err
	}
	pid := status.Agent.PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill agent %d: %w", pid, err)
	}
	return eventually(30*time.Second, func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("agent %d is still there: %v", pid, err)
		}
		return nil
	})
}

// refusal asks where nobody may answer. A second is ten times what an answer takes in these machines.
func refusal(from place, to string) error {
	for _, network := range []string{"tcp", "udp"} {
		if a, err := from.askFor(network, to+":80", "1s"); err == nil {
			return fmt.Errorf("%s answers over %s", a.Name, network)
		}
	}
	return nil
}
