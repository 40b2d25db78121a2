package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

// Where everybody lives. The machine itself is the host.
const (
	bridge  = "br0"
	uplink  = "eth-out"
	gateway = "10.88.0.1"
	addrC1  = "10.88.0.2"
	addrC2  = "10.88.0.3"
	addrC3  = "10.88.0.4"
	hostOut = "203.0.113.1" // the host, as the outside sees it
	outside = "203.0.113.2"
	beyond  = "198.51.100.9" // a server behind the outside's router, reached by the default route
)

// world is the host and its namespaces: two containers on a bridge, a third that comes later, and the outside, which has no way back to the
// containers' addresses.
type world struct {
	c1, c2, c3, out place
}

// place is a network namespace with a server in it.
type place struct {
	name string
	ns   netns.NsHandle
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func newWorld() (*world, error) {
	w := &world{}
	for name, p := range map[string]*place{"c1": &w.c1, "c2": &w.c2, "c3": &w.c3, "out": &w.out} {
		var err error
		if *p, err = newPlace(name); err != nil {
			return nil, fmt.Errorf("make namespace %s: %w", name, err)
		}
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("make bridge: %w", err)
	}
	// Nobody here speaks IPv6, and an address that the kernel makes up anew would look like something of ours.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+bridge+"/addr_gen_mode", []byte("1"), 0o644); err != nil {
		return nil, err
	}
	if err := address(br, gateway+"/24"); err != nil {
		return nil, err
	}
	for _, err := range []error{
		cable("v-c1", br, w.c1, "eth0", addrC1+"/24"),
		cable("v-c2", br, w.c2, "eth0", addrC2+"/24"),
		cable(uplink, nil, w.out, "eth0", outside+"/24"),
		w.c1.do(func() error { return defaultRoute(gateway) }),
		w.c2.do(func() error { return defaultRoute(gateway) }),
		w.out.do(func() error { return addTo("lo", beyond+"/32") }),
		addTo(uplink, hostOut+"/24"),
		defaultRoute(outside),
		routing(), // as every host of containers has it
		w.out.do(routing),
	} {
		if err != nil {
			return nil, err
		}
	}
	for _, p := range []place{w.c1, w.c2, w.c3, w.out} {
		if err := p.serve(); err != nil {
			return nil, fmt.Errorf("serve in %s: %w", p.name, err)
		}
	}
	return w, nil
}

// newPlace makes a namespace under /run/netns, with lo up.
func newPlace(name string) (place, error) {
	p := place{name: name}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread stays in the new namespace and ends
		var err error
		if p.ns, err = netns.NewNamed(name); err == nil {
			err = loopbackUp()
		}
		made <- err
	}()
	return p, <-made
}

// do runs fn, and what it starts, in the namespace.
func (p place) do(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as above
		err := netns.Set(p.ns)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// cable joins the host and a place with a pair of devices; the host's end goes into the bridge, if there is one.
func cable(name string, master netlink.Link, p place, inside, addr string) error {
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: inside, PeerNamespace: netlink.NsFd(p.ns),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	if master != nil {
		if err := netlink.LinkSetMaster(pair, master); err != nil {
			return fmt.Errorf("put %s into %s: %w", name, master.Attrs().Name, err)
		}
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		return err
	}
	return p.do(func() error { return addTo(inside, addr) })
}

func addTo(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	return address(link, addr)
}

func address(link netlink.Link, addr string) error {
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("give %s %s: %w", link.Attrs().Name, addr, err)
	}
	return netlink.LinkSetUp(link)
}

func defaultRoute(via string) error {
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)}); err != nil {
		return fmt.Errorf("route by %s: %w", via, err)
	}
	return nil
}

// routing turns a namespace into a router.
func routing() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }

// serve starts the place's server, named after it, and waits until it answers.
func (p place) serve() error {
	err := p.do(func() error {
		cmd := exec.Command("probe", "serve", "-name", p.name)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Start()
	})
	if err != nil {
		return err
	}
	return eventually(time.Minute, func() error {
		_, err := p.ask("tcp", "127.0.0.1:80")
		return err
	})
}

// eventually tries until it works or the time is over.
func eventually(limit time.Duration, try func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// ask talks to a server from inside a place; the zero place is the host.
func (p place) ask(network, to string) (echo.Answer, error) { return p.askFor(network, to, "10s") }

// askFor is ask with the time that it waits for an answer.
func (p place) askFor(network, to, timeout string) (echo.Answer, error) {
	var a echo.Answer
	talk := func() error {
		out, err := command("probe", "ask", "-net", network, "-timeout", timeout, to)
		if err != nil {
			return err
		}
		return json.Unmarshal(out, &a)
	}
	if p.name == "" {
		return a, talk()
	}
	return a, p.do(talk)
}

// command runs a program and gives what it prints; what it complains of is in the error.
func command(name string, args ...string) ([]byte, error) {
	var complaint bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

// ebpfnet runs the product; into, if not nil, gets what it says as JSON.
func ebpfnet(into any, args ...string) error {
	if into != nil {
		args = append(args, "-o", "json")
	}
	out, err := command("ebpfnet", args...)
	fmt.Printf("# ebpfnet %s\n%s", strings.Join(args, " "), out)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return errors.Join(fmt.Errorf("ebpfnet %s: %w", strings.Join(args, " "), err))
	}
	return nil
}
