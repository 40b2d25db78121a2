package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
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

// hangPause is how long an engine that hung is not asked again. The kernel is looked at meanwhile, without waiting for Docker each time.
const hangPause = 10 * time.Second

const bridgeNameOption = "com.docker.network.bridge.name"

// docker is what is asked of the engine.
type docker interface {
	ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error)
	NetworkList(context.Context, client.NetworkListOptions) (client.NetworkListResult, error)
	Events(context.Context, client.EventsListOptions) client.EventsResult
	Ping(context.Context, client.PingOptions) (client.PingResult, error)
	ClientVersion() string
	Close() error
}

// engine is one Docker engine.
type engine struct {
	connect func() (docker, error)
	socket  string // the unix socket's path, where it is one
	timeout time.Duration
	log     *slog.Logger
	events  atomic.Bool
	last    answer // look's own

	mu     sync.Mutex
	api    docker
	hung   error     // what it was that took too long
	resume time.Time // when an engine that hung is asked again
}

// answer is what the engine said.
type answer struct {
	containers []policy.Container
	networks   []policy.Network
}

// newEngine is for the engine at host, or where DOCKER_HOST or Docker's own default says if that is empty.
func newEngine(host string, log *slog.Logger) (*engine, error) {
	opts := []client.Opt{client.FromEnv}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker host %s: %w", cmp.Or(host, os.Getenv(client.EnvOverrideHost)), err)
	}
	socket, _ := strings.CutPrefix(api.DaemonHost(), "unix://")
	connect := func() (docker, error) { return client.New(opts...) }
	return &engine{connect: connect, socket: socket, timeout: lookTimeout, log: log, api: api}, nil
}

func (e *engine) close() { e.use(nil) }

// use puts a client in the place of the one that look asks.
func (e *engine) use(api docker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api != nil {
		e.api.Close()
	}
	e.api, e.hung = api, nil
}

// asked gives the client to ask, or why the engine is not to be asked now.
func (e *engine) asked() (docker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hung != nil && time.Now().Before(e.resume) {
		return nil, e.hung
	}
	e.hung = nil
	return e.api, nil
}

// failed keeps an engine that hangs from being asked for a while.
func (e *engine) failed(api docker, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) && e.api == api {
		e.hung, e.resume = err, time.Now().Add(hangPause)
	}
	return err
}

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
	api, err := e.asked()
	if err != nil {
		return e.last, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	containers, err := api.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return e.last, e.failed(api, fmt.Errorf("list Docker's containers: %w", err))
	}
	networks, err := api.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("driver", "bridge")})
	if err != nil {
		return e.last, e.failed(api, fmt.Errorf("list Docker's networks: %w", err))
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
	if out.NetworkMode == "default" {
		out.NetworkMode = "bridge" // as it was asked for, before version 26
	}
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
	slices.SortFunc(out.Attachments, func(a, b policy.Attachment) int { return strings.Compare(a.Network, b.Network) })
	for _, p := range c.Ports {
		proto, ok := protocol(p.Type)
		if !ok {
			continue
		}
		out.Exposed = append(out.Exposed, policy.PortProto{Port: p.PrivatePort, Proto: proto})
		if p.PublicPort != 0 && (p.IP.Is4() || !p.IP.IsValid()) {
			out.Ports = append(out.Ports, policy.ContainerPort{
				HostIP: hostIP(p.IP), HostPort: p.PublicPort, Port: p.PrivatePort, Proto: proto,
			})
		}
	}
	// A port that is published is there once for each of the host's addresses.
	slices.SortFunc(out.Exposed, func(a, b policy.PortProto) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
	})
	out.Exposed = slices.Compact(out.Exposed)
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
	out := policy.Network{ID: n.ID, Name: n.Name, Internal: n.Internal, Options: n.Options, Labels: n.Labels, Bridge: n.Options[bridgeNameOption]}
	if out.Bridge == "" && len(n.ID) >= 12 {
		out.Bridge = "br-" + n.ID[:12]
	}
	for _, c := range n.IPAM.Config {
		if c.Subnet.IsValid() && c.Subnet.Addr().Is4() {
			out.Subnets = append(out.Subnets, c.Subnet.Masked())
		}
	}
	return out
}
