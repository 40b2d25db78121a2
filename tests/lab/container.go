package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Container is a container of the lab's image, running or not.
type Container struct {
	Name string
	ID   string
	PID  int
	NS   *Netns     // its network namespace while it runs; nil where it has none of its own
	IP   netip.Addr // on its first network, in alphabetical order
	MAC  string
	IPs  map[string]netip.Addr // by network

	Published []Binding // IPv4 only

	host *Host
}

// Run starts a container and waits until its servers listen. Docker's flags come first; what follows "--" is its command instead of the
// servers. The name is made unique. It is removed when the test ends.
func (h *Host) Run(t testing.TB, name string, args ...string) *Container {
	t.Helper()
	flags, command := args, []string{"/bin/probe", "serve", "-name", name}
	if i := slices.Index(args, "--"); i >= 0 {
		flags, command = args[:i], args[i+1:]
	}
	c := &Container{Name: fmt.Sprintf("%s-%d", name, h.suite.next()), host: h}
	run := append([]string{"run", "--detach", "--name", c.Name}, flags...)
	c.ID = h.Docker(t, append(append(run, Image), command...)...)
	t.Cleanup(func() { c.remove() })
	c.Refresh(t)
	return c
}

func (c *Container) remove() {
	if c.NS != nil {
		_ = c.NS.Close()
		c.NS = nil
	}
	_, _ = c.host.TryDocker("rm", "--force", c.ID)
}

// Remove removes the container at once.
func (c *Container) Remove(t testing.TB) {
	t.Helper()
	c.remove()
}

// Start, Stop and Restart are Docker's, without time to end in peace.
func (c *Container) Start(t testing.TB) {
	t.Helper()
	c.host.Docker(t, "start", c.ID)
	c.Refresh(t)
}

// Stop stops the container.
func (c *Container) Stop(t testing.TB) {
	t.Helper()
	c.host.Docker(t, "stop", "-t", "0", c.ID)
}

// Restart stops the container and starts it again.
func (c *Container) Restart(t testing.TB) {
	t.Helper()
	c.host.Docker(t, "restart", "-t", "0", c.ID)
	c.Refresh(t)
}

// inspected is what is needed of docker inspect.
type inspected struct {
	Path  string
	Args  []string
	State struct{ Pid int }

	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, MacAddress string }
		Ports    map[string][]struct{ HostIp, HostPort string }
	}
}

// Binding is a port of the host that Docker publishes.
type Binding struct {
	IP    netip.Addr
	Port  uint16
	Proto string
}

// Refresh reads what changes when a container starts or is connected, and waits until its servers listen.
func (c *Container) Refresh(t testing.TB) {
	t.Helper()
	var all []inspected
	if err := json.Unmarshal([]byte(c.host.Docker(t, "inspect", c.ID)), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect %s: %d results: %v", c.Name, len(all), err)
	}
	in := all[0]
	c.PID, c.IPs = in.State.Pid, map[string]netip.Addr{}
	c.IP, c.MAC = netip.Addr{}, ""
	var names []string
	for name := range in.NetworkSettings.Networks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		network := in.NetworkSettings.Networks[name]
		ip, err := netip.ParseAddr(network.IPAddress)
		if err != nil {
			continue // none and host have no address
		}
		c.IPs[name] = ip
		if !c.IP.IsValid() {
			c.IP, c.MAC = ip, network.MacAddress
		}
	}
	c.Published = nil
	for port, bindings := range in.NetworkSettings.Ports {
		_, proto, _ := strings.Cut(port, "/")
		for _, b := range bindings {
			addr, err := netip.ParseAddrPort(net.JoinHostPort(b.HostIp, b.HostPort))
			if err == nil && addr.Addr().Is4() {
				c.Published = append(c.Published, Binding{addr.Addr(), addr.Port(), proto})
			}
		}
	}
	if c.NS != nil {
		_ = c.NS.Close()
	}
	var err error
	if c.NS, err = openNetns(c.Name, fmt.Sprintf("/proc/%d/ns/net", c.PID)); err != nil {
		t.Fatal(err)
	}
	if in.Path == "/bin/probe" && !slices.Contains(in.Args, "-tcp") {
		Eventually(t, 10*time.Second, func() error { return c.listens(81) })
	}
}

// listens reads the container's sockets from outside, so that no packet is needed to know that it is ready.
func (c *Container) listens(port int) error {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", c.PID))
	if err != nil {
		return err
	}
	if !strings.Contains(string(table), fmt.Sprintf(":%04X 00000000:0000 0A", port)) {
		return fmt.Errorf("%s does not listen on %d", c.Name, port)
	}
	return nil
}

// At is the container's own address and a port.
func (c *Container) At(port int) string { return netip.AddrPortFrom(c.IP, uint16(port)).String() }

// Exec runs a program of the image inside the container, under everything that Docker puts around it.
func (c *Container) Exec(t testing.TB, args ...string) string {
	t.Helper()
	return c.host.Docker(t, append([]string{"exec", c.ID}, args...)...)
}

// Network makes a Docker network, and removes it when the test ends.
func (h *Host) Network(t testing.TB, name string, flags ...string) string {
	t.Helper()
	unique := fmt.Sprintf("%s-%d", name, h.suite.next())
	id := h.Docker(t, append(append([]string{"network", "create"}, flags...), unique)...)
	t.Cleanup(func() { _, _ = h.TryDocker("network", "rm", id) })
	return unique
}

// NetworkBridge is the Linux bridge of a Docker network.
func (h *Host) NetworkBridge(t testing.TB, name string) string {
	t.Helper()
	return "br-" + h.Docker(t, "network", "inspect", "--format", "{{.Id}}", name)[:12]
}
