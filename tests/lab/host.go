package lab

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// World is how dockerd is configured.
type World int

const (
	Default World = iota // as installed: netfilter rules and docker-proxy
	Native               // --iptables=false --ip6tables=false --userland-proxy=false
)

func (w World) String() string {
	if w == Native {
		return "native"
	}
	return "default"
}

// Addresses of every lab. The host has two uplinks to one router, and the remote machine stands behind it:
//
//	docker0 172.17.0.1/16 [host] up0 192.0.2.1/24   --- 192.0.2.254 r0 [router] rr 203.0.113.254/24 --- 203.0.113.2, .3/24 far [remote]
//	                             up1 198.51.100.1/24 --- 198.51.100.254 r1
//
// The default route leaves by up0; RemoteBy1 is reached by up1. The router also stands for a neighbour on the uplinks' own networks.
const (
	HostIP     = "192.0.2.1"
	HostIP1    = "198.51.100.1"
	GatewayIP  = "172.17.0.1"
	RouterIP   = "192.0.2.254"
	RouterIP1  = "198.51.100.254"
	RemoteIP   = "203.0.113.2"
	RemoteIP2  = "203.0.113.3"
	RemoteBy1  = "203.0.113.130"
	Bridge     = "docker0"
	BridgeNet  = "172.17.0.0/16"
	remoteName = "remote"
)

// Host is a machine that runs Docker, with a router and a remote machine around it.
type Host struct {
	World  World
	NS     *Netns // the host's namespace
	Router *Netns
	Remote *Netns

	suite  *Suite
	name   string
	docker *docker

	mu        sync.Mutex
	shared    *Instance
	instances []*Instance
}

// newHost builds the machines and starts dockerd.
func (s *Suite) newHost(w World, name string, flags []string) (h *Host, err error) {
	h = &Host{World: w, suite: s, name: name}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make host %s: %w", name, err), h.Close())
		}
	}()
	for _, n := range []struct {
		ns   **Netns
		name string
	}{{&h.NS, "host"}, {&h.Router, "router"}, {&h.Remote, remoteName}} {
		if *n.ns, err = newNetns(s.prefix + "-" + name + "-" + n.name); err != nil {
			return h, err
		}
	}
	if err := h.wire(); err != nil {
		return h, err
	}
	if h.docker, err = newDocker(s, h.NS, name, append(w.flags(), flags...)); err != nil {
		return h, err
	}
	return h, h.docker.begin(s)
}

// flags are dockerd's.
func (w World) flags() []string {
	if w == Native {
		return []string{"--iptables=false", "--ip6tables=false", "--userland-proxy=false"}
	}
	return nil
}

// wire connects the machines. A new namespace copies the machine's settings, so those that matter are set: forwarding is off on the host, as
// on a machine that has just booted, and dockerd turns it on; reverse path filtering is loose, as systemd has it. IPv6 addresses are there at
// once, so that a host looks the same a second later.
func (h *Host) wire() error {
	for path, value := range map[string]string{
		"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "2", "net/ipv4/conf/default/rp_filter": "2",
		"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0",
	} {
		if err := h.NS.setSysctl(path, value); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
	}
	// Each of the router's devices answers ARP for its own addresses alone.
	for path, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/arp_ignore": "1"} {
		if err := h.Router.setSysctl(path, value); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
	}
	steps := []struct {
		ns    *Netns
		words []string
	}{
		{h.NS, []string{
			"link add up0 type veth peer name r0 netns " + h.Router.Name,
			"link add up1 type veth peer name r1 netns " + h.Router.Name,
			"addr add " + HostIP + "/24 dev up0", "addr add " + HostIP1 + "/24 dev up1", "link set up0 up", "link set up1 up",
		}},
		{h.Router, []string{
			"link add rr type veth peer name far netns " + h.Remote.Name,
			"addr add " + RouterIP + "/24 dev r0", "addr add " + RouterIP1 + "/24 dev r1", "addr add 203.0.113.254/24 dev rr",
			"link set r0 up", "link set r1 up", "link set rr up",
		}},
		{h.Remote, []string{
			"addr add " + RemoteIP + "/24 dev far", "addr add " + RemoteIP2 + "/24 dev far", "addr add " + RemoteBy1 + "/24 dev far",
			"link set far up", "route add default via 203.0.113.254",
		}},
		{h.NS, []string{"route add default via " + RouterIP, "route add " + RemoteBy1 + " via " + RouterIP1}},
	}
	for _, s := range steps {
		if err := s.ns.ip(s.words...); err != nil {
			return err
		}
	}
	return nil
}

// Close takes the machines down.
func (h *Host) Close() error {
	var errs []error
	for _, in := range h.instances {
		errs = append(errs, in.Close())
	}
	if h.docker != nil {
		errs = append(errs, h.docker.close())
	}
	for _, ns := range []*Netns{h.NS, h.Router, h.Remote} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// Machine makes one more namespace, with nothing in it but its loopback, until the test ends.
func (h *Host) Machine(t testing.TB, name string) *Netns {
	t.Helper()
	n, err := newNetns(fmt.Sprintf("%s-%s-%s%d", h.suite.prefix, h.name, name, h.suite.next()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return n
}
