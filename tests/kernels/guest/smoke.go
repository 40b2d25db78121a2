package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

// attach attaches the bridge and names the kind of hook that the programs are on, by what the kernel says of every device.
func (w *world) attach(f loader.Features) (string, error) {
	if err := ebpfnet(nil, "attach", "--bridge", bridge, "--uplink", uplink); err != nil {
		return "", err
	}
	err := eventually(30*time.Second, func() error {
		var list []api.Endpoint
		if err := ebpfnet(&list, "endpoint", "list"); err != nil {
			return err
		}
		if len(list) != 2 {
			return fmt.Errorf("%d endpoints, not 2", len(list))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var status api.Status
	if err := ebpfnet(&status, "status"); err != nil {
		return "", err
	}
	if status.Kernel.Hook != f.Hook() {
		return "", fmt.Errorf("status says %s, the features %s", status.Kernel.Hook, f.Hook())
	}
	for _, device := range []string{bridge, "v-c1", "v-c2", uplink} {
		on, err := hooksOf(device)
		if err != nil {
			return "", err
		}
		want := fmt.Sprintf("%s ingress 1, egress 1", f.Hook())
		if on != want {
			return "", fmt.Errorf("%s has %s, not %s", device, on, want)
		}
	}
	return f.Hook(), nil
}

// forward has one container talk to the other, and the flow table say that it was the datapath that carried it.
func (w *world) forward() (string, error) {
	talk := func(network string) func() error {
		return func() error { return w.expect(w.c1, network, addrC2+":80", "c2", addrC1) }
	}
	err := all(
		try{"tcp", talk("tcp")},
		try{"udp", talk("udp")},
		try{"flow list", func() error { return carried("local", addrC1, addrC2) }},
	)
	return addrC1 + " -> " + addrC2 + ": tcp, udp", err
}

// masquerade has a container talk to servers outside, which are to see the host.
func (w *world) masquerade() (string, error) {
	var tries []try
	for _, to := range []string{outside, beyond} {
		for _, network := range []string{"tcp", "udp"} {
			tries = append(tries, try{network + " to " + to, func() error { return w.expect(w.c1, network, to+":80", "out", hostOut) }})
		}
	}
	tries = append(tries, try{"flow list", func() error { return carried("out", addrC1, outside) }})
	return addrC1 + " as " + hostOut + " to " + outside + " and " + beyond + ": tcp, udp", all(tries...)
}

// publish publishes ports of a running container and asks for them from everywhere.
func (w *world) publish() (string, error) {
	for _, spec := range []string{"8080:80", "8080:80/udp"} {
		if err := ebpfnet(nil, "publish", spec, addrC1); err != nil {
			return "", err
		}
	}
	var tries []try
	for _, network := range []string{"tcp", "udp"} {
		for _, t := range []struct {
			what, to, seen string
			from           place
		}{
			{"from outside", hostOut, outside, w.out},
			{"from the host through 127.0.0.1", "127.0.0.1", gateway, place{}},
			{"from the host through its own address", hostOut, gateway, place{}},
			{"from the host through the gateway's", gateway, gateway, place{}},
			{"from another container", hostOut, "", w.c2},
			{"from another container through the gateway's", gateway, "", w.c2},
			{"from the container itself", hostOut, "", w.c1},
		} {
			tries = append(tries, try{network + " " + t.what, func() error { return w.expect(t.from, network, t.to+":8080", "c1", t.seen) }})
		}
	}
	tries = append(tries,
		try{"flow list", func() error { return carried("in", outside, addrC1) }},
		try{"unpublish", func() error {
			return errors.Join(ebpfnet(nil, "unpublish", "8080"), ebpfnet(nil, "unpublish", "8080/udp"))
		}},
		try{"after unpublish", func() error {
			if a, err := w.out.ask("tcp", hostOut+":8080"); err == nil {
				return fmt.Errorf("%s still answers", a.Name)
			}
			return nil
		}},
	)
	return "8080 -> " + addrC1 + ":80 from outside, the host, a container and itself: tcp, udp", all(tries...)
}

// detach takes everything off, and compares what is on the machine with what was there before.
func (w *world) detach(before leftovers) (string, error) {
	if err := ebpfnet(nil, "detach", "--all", "--yes"); err != nil {
		return "", err
	}
	// The kernel frees programs and maps some time after the last reference to them.
	err := eventually(time.Minute, func() error {
		now, err := look()
		if err != nil {
			return err
		}
		return before.compare(now)
	})
	if err != nil {
		return "", err
	}
	return "nothing left", w.expect(w.c1, "tcp", addrC2+":80", "c2", addrC1)
}

// expect asks and checks who answered and, unless that is left open, whom the server saw.
func (w *world) expect(from place, network, to, name, seen string) error {
	a, err := from.ask(network, to)
	switch {
	case err != nil:
		return err
	case a.Name != name:
		return fmt.Errorf("%s answered, not %s", a.Name, name)
	case seen != "" && a.Seen().Addr() != netip.MustParseAddr(seen):
		return fmt.Errorf("%s saw %s, not %s", name, a.Client, seen)
	case a.From.String() != to:
		return fmt.Errorf("the answer came from %s, not from %s", a.From, to)
	}
	return nil
}

// carried says whether the flow table has a flow of that path from one address to another, as the originator sends it or as it arrives.
func carried(path, from, to string) error {
	var flows []api.Flow
	if err := ebpfnet(&flows, "flow", "list"); err != nil {
		return err
	}
	for _, f := range flows {
		if f.Path == path && f.Original.Source == from && (f.Original.Destination == to || f.Translated.Destination == to) {
			return nil
		}
	}
	return fmt.Errorf("no flow %s from %s to %s among %d", path, from, to, len(flows))
}

// tell prints what helps to see what went wrong.
func (w *world) tell() {
	for _, args := range [][]string{{"status"}, {"endpoint", "list"}, {"port", "list"}, {"flow", "list"}, {"doctor"}} {
		if err := ebpfnet(nil, args...); err != nil {
			fmt.Println(err)
		}
	}
	log, err := os.ReadFile(loader.PathsFor(loader.DefaultInstance).Log)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	lines := strings.Split(string(log), "\n")
	fmt.Printf("# the agent's log\n%s\n", strings.Join(lines[max(0, len(lines)-100):], "\n"))
}
