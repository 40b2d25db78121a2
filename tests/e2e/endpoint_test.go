package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// endpoint get shows which device of the host belongs to which of a container, the namespace that each is in, and the container's routes: a
// container of Docker's, and a namespace that somebody plugged in and gave routes of its own.
func TestEndpointGet(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		m := s.Machine(t, "plain")
		plug(t, s, m, "plainget", 0, "172.17.221.1")
		m.IP(t, "route add 198.18.0.0/15 via "+lab.GatewayIP+" metric 7")
		m.IP(t, "-6 route add 2001:db8::/32 dev eth0")
		s.Endpoint(t, c.IP)
		for _, tt := range []struct {
			name   string
			ns     *lab.Netns
			ip     string
			routes []string
		}{
			{c.Name, c.NS, c.IP.String(), []string{"default via 172.17.0.1 dev eth0", "172.17.0.0/16 dev eth0 src " + c.IP.String()}},
			{"172.17.221.1", m, "172.17.221.1", []string{"default via 172.17.0.1 dev eth0", "172.17.0.0/16 dev eth0 src 172.17.221.1",
				"198.18.0.0/15 via 172.17.0.1 dev eth0 metric 7", "2001:db8::/32 dev eth0 metric 1024"}},
		} {
			var d api.EndpointDetail
			lab.Eventually(t, lab.Patience, func() error {
				if o := s.Try(t, "endpoint", "get", tt.name); o.Code != 0 {
					return fmt.Errorf("%s", o.Stderr)
				}
				return nil
			})
			s.JSON(t, &d, "endpoint", "get", tt.name)
			if d.NotLooked != "" {
				t.Fatalf("not looked into: %s", d.NotLooked)
			}
			inside, host := tt.ns.Device(t, "eth0"), s.NS.Device(t, d.Veth)
			for what, pair := range map[string][2]any{
				"the container's end":           {d.Inside, api.VethEnd{Name: "eth0", Ifindex: inside.Index, MAC: inside.HardwareAddr.String(), MTU: inside.MTU, Up: true, Namespace: space(t, tt.ns), Path: d.Inside.Path}},
				"the host's end":                {d.Host, api.VethEnd{Name: host.Name, Ifindex: host.Index, MAC: host.HardwareAddr.String(), MTU: host.MTU, Up: true, Namespace: space(t, s.NS)}},
				"the peer's ifindex":            {d.PeerIfindex, inside.Index},
				"what the container says of it": {strings.TrimSpace(readIn(t, tt.ns, "/sys/class/net/eth0/iflink")), fmt.Sprint(d.Host.Ifindex)},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %s: got %+v, want %+v", tt.name, what, pair[0], pair[1])
				}
			}
			if link, err := os.Stat(d.Inside.Path); err != nil {
				t.Errorf("%s: path: %v", tt.name, err)
			} else if same, err := os.Stat(tt.ns.Path()); err != nil || !os.SameFile(link, same) {
				t.Errorf("%s: %s is another namespace (%v)", tt.name, d.Inside.Path, err)
			}
			text := s.Ebpfnet(t, "endpoint", "get", tt.name)
			for _, want := range tt.routes {
				if !strings.Contains(text, "route "+want+"\n") {
					t.Errorf("%s: no route %s in\n%s", tt.name, want, text)
				}
			}
			v4 := slices.DeleteFunc(d.Routes, func(r api.Route) bool { return strings.Contains(r.Destination, ":") })
			if kernel := strings.Count(strings.TrimSpace(tt.ns.IP(t, "-4 route show")), "\n") + 1; kernel != len(v4) {
				t.Errorf("%s: %d routes, the kernel has %d: %+v", tt.name, len(v4), kernel, v4)
			}
			for _, want := range []string{d.Veth, fmt.Sprint(host.Index), "eth0", space(t, s.NS), space(t, tt.ns)} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: no %s in\n%s", tt.name, want, text)
				}
			}
		}
	})
}

// space names a namespace as /proc does.
func space(t *testing.T, n *lab.Netns) string {
	t.Helper()
	info, err := os.Stat(n.Path())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("net:[%d]", info.Sys().(*syscall.Stat_t).Ino)
}

// readIn reads a file as a process of the namespace that mounts its own /sys would.
func readIn(t *testing.T, n *lab.Netns, path string) string {
	t.Helper()
	return n.Run(t, "unshare", "--mount", "sh", "-c", "mount -t sysfs sysfs /sys && cat "+path)
}
