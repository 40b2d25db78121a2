package observe

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/policy"
)

func newTestEngine(t *testing.T, d *dockerd) *engine {
	t.Helper()
	e, err := newEngine("unix://"+d.socket, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	return e
}

var comparePlain = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// web20 is a container as version 20.10 lists it, with what a later version has besides.
const web20 = `{
	"Id": "aaaa", "Names": ["/other/web", "/web"], "Image": "busybox", "State": "running", "Status": "Up 2 minutes (Paused)",
	"Labels": {"tier": "front"}, "HostConfig": {"NetworkMode": "default"},
	"Ports": [
		{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
		{"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
		{"IP": "192.0.2.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
		{"PrivatePort": 7, "PublicPort": 7, "Type": "sctp"},
		{"IP": "::1", "PrivatePort": 90, "PublicPort": 9090, "Type": "tcp"},
		{"PrivatePort": 443, "Type": "tcp"},
		{"PrivatePort": 1, "Type": "dccp"}
	],
	"NetworkSettings": {"Networks": {
		"net": {"IPAMConfig": {}, "Links": null, "NetworkID": "n2", "EndpointID": "e2", "Gateway": "172.18.0.1", "IPAddress": "172.18.0.9",
			"IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "02:42:ac:12:00:09",
			"DriverOpts": null, "GwPriority": 7, "DNSNames": ["web", "aaaa"], "OfALaterVersion": {}},
		"bridge": {"IPAMConfig": null, "NetworkID": "n1", "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02"},
		"starting": {"NetworkID": "", "Gateway": "", "IPAddress": "", "MacAddress": ""},
		"null": null
	}}
}`

func TestLookAtContainers(t *testing.T) {
	tests := []struct {
		name, list string
		want       []policy.Container
	}{
		{name: "none", list: "[]"},
		{name: "ports, networks, names", list: "[" + web20 + "]", want: []policy.Container{{
			ID: "aaaa", Name: "web", Labels: map[string]string{"tier": "front"}, NetworkMode: "bridge",
			Attachments: []policy.Attachment{
				{Network: "bridge", NetworkID: "n1", MAC: []byte{2, 0x42, 172, 17, 0, 2},
					Addr: netip.MustParseAddr("172.17.0.2"), Gateway: netip.MustParseAddr("172.17.0.1")},
				{Network: "net", NetworkID: "n2", MAC: []byte{2, 0x42, 172, 18, 0, 9},
					Addr: netip.MustParseAddr("172.18.0.9"), Gateway: netip.MustParseAddr("172.18.0.1"), GwPriority: 7},
				{Network: "starting"},
			},
			Ports: []policy.ContainerPort{
				{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Proto: unix.IPPROTO_TCP},
				{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 53, Port: 53, Proto: unix.IPPROTO_UDP},
				{HostIP: netip.IPv4Unspecified(), HostPort: 7, Port: 7, Proto: unix.IPPROTO_SCTP},
			},
			Exposed: []policy.PortProto{
				{Port: 7, Proto: unix.IPPROTO_SCTP}, {Port: 53, Proto: unix.IPPROTO_UDP}, {Port: 80, Proto: unix.IPPROTO_TCP},
				{Port: 90, Proto: unix.IPPROTO_TCP}, {Port: 443, Proto: unix.IPPROTO_TCP},
			},
		}}},
		{name: "other modes", list: `[
			{"Id": "b", "Names": ["/h"], "HostConfig": {"NetworkMode": "host"}, "NetworkSettings": {"Networks": {"host": {"NetworkID": "n3"}}}},
			{"Id": "c", "Names": ["/s"], "HostConfig": {"NetworkMode": "container:aaaa"}, "NetworkSettings": {"Networks": {}}},
			{"Id": "d", "HostConfig": {}}]`,
			want: []policy.Container{
				{ID: "b", Name: "h", NetworkMode: "host", Attachments: []policy.Attachment{{Network: "host", NetworkID: "n3"}}},
				{ID: "c", Name: "s", NetworkMode: "container:aaaa"},
				{ID: "d"},
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDockerd(t)
			d.containers = tt.list
			d.start()
			got, err := newTestEngine(t, d).look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.containers, comparePlain); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookAtNetworks(t *testing.T) {
	d := newDockerd(t)
	d.networks = `[
		{"Name": "bridge", "Id": "0123456789abcdef", "Driver": "bridge", "Scope": "local", "EnableIPv6": false, "Internal": false,
			"IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
			"Options": {"com.docker.network.bridge.name": "docker0", "com.docker.network.bridge.enable_icc": "false"}},
		{"Name": "net", "Id": "fedcba9876543210", "Driver": "bridge", "Internal": true,
			"IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.1.2.3/24", "AuxiliaryAddresses": {"router": "10.1.2.9"}}, {}]}},
		{"Name": "odd", "Id": "short", "Driver": "bridge", "IPAM": {"Config": null}}]`
	d.start()
	got, err := newTestEngine(t, d).look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Network{
		{ID: "0123456789abcdef", Name: "bridge", Bridge: "docker0", Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")},
			Options: map[string]string{"com.docker.network.bridge.name": "docker0", "com.docker.network.bridge.enable_icc": "false"}},
		{ID: "fedcba9876543210", Name: "net", Bridge: "br-fedcba987654", Internal: true,
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}},
		{ID: "short", Name: "odd"},
	}
	if diff := cmp.Diff(want, got.networks, comparePlain); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Only running containers, only bridges, nothing but lists, and in a version that 20.10 knows.
	if diff := cmp.Diff("/v1.41/containers/json\n/v1.41/networks?filters=%7B%22driver%22%3A%7B%22bridge%22%3Atrue%7D%7D", d.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// No Docker is no error; one that has gone leaves what it said.
func TestLookWithoutEngine(t *testing.T) {
	d := newDockerd(t)
	e := newTestEngine(t, d)
	got, err := e.look(t.Context())
	if err != nil || got.containers != nil {
		t.Errorf("before it came: %+v, %v", got, err)
	}
	d.containers = "[" + web20 + "]"
	d.start()
	if got, err = e.look(t.Context()); err != nil || len(got.containers) != 1 {
		t.Errorf("once it is there: %+v, %v", got, err)
	}
	d.stop()
	if err := os.WriteFile(d.socket, nil, 0o600); err != nil { // a socket that nobody listens on
		t.Fatal(err)
	}
	if got, err = e.look(t.Context()); err == nil || len(got.containers) != 1 {
		t.Errorf("killed: %+v, %v; want what it said, and an error", got, err)
	}
	os.Remove(d.socket)
	if got, err = e.look(t.Context()); err != nil || len(got.containers) != 1 {
		t.Errorf("stopped: %+v, %v; want what it said", got, err)
	}
}

// The kernel's devices are looked at without waiting for an engine that hangs each time, until it is known to be back.
func TestLookAtHungEngine(t *testing.T) {
	d := newDockerd(t)
	d.hangs = true
	d.start()
	e := newTestEngine(t, d)
	e.timeout = 50 * time.Millisecond
	if _, err := e.look(t.Context()); err == nil {
		t.Fatal("no error from an engine that hangs")
	}
	d.requests()
	if _, err := e.look(t.Context()); err == nil {
		t.Error("no error from the engine that hung")
	}
	if asked := d.requests(); asked != "" {
		t.Errorf("asked again at once: %s", asked)
	}
	d.stop()
	d.start()
	e.timeout = 5 * time.Second
	follow(t, e)
	eventually(t, "the engine is followed", e.following)
	if _, err := e.look(t.Context()); err != nil {
		t.Errorf("once it is back: %v", err)
	}
}

// A caller that gives up says nothing about the engine.
func TestLookCancelled(t *testing.T) {
	d := newDockerd(t)
	d.start()
	e := newTestEngine(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.look(ctx); err == nil {
		t.Error("no error")
	}
	if _, err := e.look(t.Context()); err != nil {
		t.Errorf("the next look: %v", err)
	}
}

func TestEngineHost(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nowhere/env.sock")
	tests := []struct{ name, host, socket, err string }{
		{name: "environment", socket: "/nowhere/env.sock"},
		{name: "flag", host: "unix:///nowhere/flag.sock", socket: "/nowhere/flag.sock"},
		{name: "TCP", host: "tcp://192.0.2.1:2375", socket: "tcp://192.0.2.1:2375"},
		{name: "nonsense", host: "nonsense", err: "docker host nonsense"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := newEngine(tt.host, discard())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer e.close()
			if e.socket != tt.socket {
				t.Errorf("socket %q, want %q", e.socket, tt.socket)
			}
		})
	}
}
