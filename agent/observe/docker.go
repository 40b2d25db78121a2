package observe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/policy"
)

// lookTimeout bounds one look at the engine, which answers in milliseconds unless it hangs.
const lookTimeout = 5 * time.Second

const bridgeNameOption = "com.docker.network.bridge.name"

// docker is what is asked of the engine.
type docker interface {
	ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error)
	NetworkList(context.Context, client.NetworkListOptions) (client.NetworkListResult, error)
	Events(context.Context, client.EventsListOptions) client.EventsResult
	Ping(context.Context, client.PingOptions) (client.PingResult, error)
	Close() error
}

// engine is one Docker engine. Its version is negotiated with the first request.
type engine struct {
	api    docker
	socket string // the unix socket's path, where it is one
	events atomic.Bool
	last   answer
}

// answer is what the engine said.
type answer struct {
	containers []policy.Container
	networks   []policy.Network
}

func newEngine(host string) (*engine, error) {
	opts := []client.Opt{client.FromEnv}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	} else {
		host = client.DefaultDockerHost
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker host %s: %w", host, err)
	}
	socket, _ := strings.CutPrefix(host, "unix://")
	return &engine{api: api, socket: socket}, nil
}

func (e *engine) close() { e.api.Close() }

// absent tells that there is no engine to ask: no socket, so nobody installed one, or it is stopped.
func (e *engine) absent() bool {
	if !strings.HasPrefix(e.socket, "/") {
		return false
	}
	_, err := os.Stat(e.socket)
	return err != nil
}

// look gives the running containers and the bridge networks. An engine that is away, restarting or stopped, leaves what it said last: its
// containers may go on without it, and those that end are seen by the kernel. One that was never there has none, and that is no error.
func (e *engine) look(ctx context.Context) (answer, error) {
	if e.absent() {
		return e.last, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	containers, err := e.api.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return e.last, fmt.Errorf("list Docker's containers: %w", err)
	}
	networks, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("driver", "bridge")})
	if err != nil {
		return e.last, fmt.Errorf("list Docker's networks: %w", err)
	}
	var said answer
	for _, c := range containers.Items {
		said.containers = append(said.containers, toContainer(c))
	}
	for _, n := range networks.Items {
		said.networks = append(said.networks, toNetwork(n))
	}
	e.last = said
	return said, nil
}

func toContainer(c container.Summary) policy.Container {
	out := policy.Container{ID: c.ID, Labels: c.Labels, NetworkMode: c.HostConfig.NetworkMode}
	for _, name := range c.Names {
		// The names that links gave have a second slash.
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			out.Name = name
		}
	}
	if c.NetworkSettings != nil {
		for name, n := range c.NetworkSettings.Networks {
			if n == nil {
				continue
			}
			out.Attachments = append(out.Attachments, policy.Attachment{
				Network: name, NetworkID: n.NetworkID, MAC: net.HardwareAddr(n.MacAddress),
				Addr: n.IPAddress, Gateway: n.Gateway, GwPriority: n.GwPriority,
			})
		}
	}
	for _, p := range c.Ports {
		proto, ok := protocol(p.Type)
		switch {
		case !ok:
		case p.PublicPort == 0:
			out.Exposed = append(out.Exposed, policy.PortProto{Port: p.PrivatePort, Proto: proto})
		case p.IP.Is4() || !p.IP.IsValid():
			out.Ports = append(out.Ports, policy.ContainerPort{
				HostIP: hostIP(p.IP), HostPort: p.PublicPort, Port: p.PrivatePort, Proto: proto,
			})
			out.Exposed = append(out.Exposed, policy.PortProto{Port: p.PrivatePort, Proto: proto})
		}
	}
	return out
}

func hostIP(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv4Unspecified()
	}
	return a
}

func protocol(name string) (uint8, bool) {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP, true
	case "udp":
		return unix.IPPROTO_UDP, true
	case "sctp":
		return unix.IPPROTO_SCTP, true
	default:
		return 0, false
	}
}

func toNetwork(n network.Summary) policy.Network {
	out := policy.Network{ID: n.ID, Name: n.Name, Internal: n.Internal, Options: n.Options, Bridge: n.Options[bridgeNameOption]}
	if out.Bridge == "" && len(n.ID) >= 12 {
		out.Bridge = "br-" + n.ID[:12]
	}
	for _, c := range n.IPAM.Config {
		if c.Subnet.IsValid() && c.Subnet.Addr().Is4() {
			out.Subnets = append(out.Subnets, c.Subnet)
		}
	}
	return out
}
