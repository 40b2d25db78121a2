package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Run starts a container and waits until the product knows its addresses on attached bridges, and the ports that Docker publishes for it.
func (s site) Run(t testing.TB, name string, args ...string) *lab.Container {
	t.Helper()
	c := s.Host.Run(t, name, args...)
	s.await(t, c)
	return c
}

// await waits until the product has caught up with a container that runs.
func (s site) await(t testing.TB, c *lab.Container) {
	t.Helper()
	s.Instance.Await(t, c)
}

// Ebpfnet runs the product's command line, and returns what it prints.
func (s site) Ebpfnet(t testing.TB, args ...string) string {
	t.Helper()
	return s.Instance.Run(t, args...)
}

// Publish publishes a port for as long as the test runs.
func (s site) Publish(t testing.TB, spec string, target ...string) {
	t.Helper()
	s.Ebpfnet(t, append([]string{"publish", spec}, target...)...)
	t.Cleanup(func() { s.Try(t, "unpublish", hostPart(spec)) })
}

// hostPart is what unpublish takes of what publish takes.
func hostPart(spec string) string {
	ports, proto, named := strings.Cut(spec, "/")
	ports = ports[:strings.LastIndexByte(ports, ':')]
	if named {
		return ports + "/" + proto
	}
	return ports
}

// attachNetwork makes a Docker network and attaches its bridge for as long as the test runs.
func (s site) attachNetwork(t testing.TB, name string, flags ...string) (network, bridge string) {
	t.Helper()
	network = s.Network(t, name, flags...)
	bridge = s.NetworkBridge(t, network)
	s.Attach(t, "--bridge", bridge)
	t.Cleanup(func() { s.Try(t, "detach", "--bridge", bridge, "--yes") })
	return network, bridge
}

// carried fails the test where the product has not itself delivered that many packets by a path while fn ran: over Docker's own rules much
// works without it.
func (s site) carried(t testing.TB, path string, least int, fn func()) {
	t.Helper()
	before := s.Scrape(t).Forwarded(path)
	fn()
	lab.Eventually(t, lab.Patience, func() error {
		if got := s.Scrape(t).Forwarded(path) - before; got < float64(least) {
			return fmt.Errorf("%g packets were delivered by path %s, want %d or more", got, path, least)
		}
		return nil
	})
}

// gateway is docker0's own link-layer address.
func (s site) gateway(t testing.TB) []byte { return s.NS.Device(t, lab.Bridge).HardwareAddr }

// wire builds packets from the router to the host.
func (s site) wire(t testing.TB, src, dst netip.AddrPort) lab.Way {
	t.Helper()
	return lab.Way{SrcMAC: s.Router.Device(t, "r0").HardwareAddr, DstMAC: s.NS.Device(t, "up0").HardwareAddr, Src: src, Dst: dst}
}

// carrying matches packets with a payload.
func carrying(payload string) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return strings.Contains(string(p.Data), payload) }
}

// to matches IPv4 packets to an address and port.
func to(dst string) func(lab.Packet) bool {
	addr := netip.MustParseAddrPort(dst)
	return func(p lab.Packet) bool { return p.Destination() == addr }
}

// sound checks the checksums of all IPv4 packets of a capture.
func sound(t testing.TB, c *lab.Capture) {
	t.Helper()
	packets := c.All(func(p lab.Packet) bool { return p.IP != nil })
	if len(packets) == 0 {
		t.Error("nothing was captured")
	}
	for _, p := range packets {
		if err := p.Checksums(); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// words splits a command as a shell would, without quotes.
func words(s string) []string { return strings.Fields(s) }
