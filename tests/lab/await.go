package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Await waits until the product knows a running container: its addresses on attached bridges, and the ports that Docker publishes for it.
func (in *Instance) Await(t testing.TB, c *Container) {
	t.Helper()
	var subnets []netip.Prefix
	for _, b := range in.Status(t).Bridges {
		for _, n := range b.Subnets {
			subnets = append(subnets, netip.MustParsePrefix(n))
		}
	}
	here := func(ip netip.Addr) bool {
		return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	any := false
	for _, ip := range c.IPs {
		if !here(ip) {
			continue
		}
		any = true
		Eventually(t, Patience, func() error {
			if e := in.Endpoint(t, ip); e.Container != c.Name {
				return fmt.Errorf("endpoint %s is called %q instead of %s", ip, e.Container, c.Name)
			}
			return nil
		})
	}
	if !any {
		return
	}
	Eventually(t, Patience, func() error {
		ports := in.Ports(t)
		for _, b := range c.Published {
			if !slices.ContainsFunc(ports, func(p api.Port) bool { return p.Active && covers(p, b) && strings.Contains(p.Endpoint, c.Name) }) {
				return fmt.Errorf("%v of %s is not published", b, c.Name)
			}
		}
		return nil
	})
}

func covers(p api.Port, b Binding) bool {
	return p.HostIP == b.IP.String() && p.HostPort <= b.Port && b.Port <= p.HostEnd && p.Proto == b.Proto
}
