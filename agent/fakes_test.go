package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/agent/monitor"
	"github.com/ebpfnet/ebpfnet/agent/observe"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/metrics"
	"github.com/ebpfnet/ebpfnet/policy"
)

// lab is a host made of fakes, on which a real agent runs.
type lab struct {
	t      testing.TB
	agent  *Agent
	client *client.Client
	paths  loader.Paths
	fdb    *fakeFDB
	conf   string // folder of the sysctls
	ended  chan struct{}
	stop   context.CancelFunc

	options func(*Options) // changes what the agent is told; nil for the usual

	mu       sync.Mutex
	observed policy.Observed
	docker   bool
	torn     bool
	foreign  []string
	ruled    chan struct{}
	sockets  map[uint16]string // what listens on a port
	changes  chan struct{}

	// The kernel: it outlives an agent.
	programs  map[int][]string
	tables    maps.State
	flows     []maps.FlowRow
	walks     int // over the flow tables' entries
	pinned    bool
	ops       []string
	syncError error
	loadError error
}

func newLab(t testing.TB, o policy.Observed) *lab {
	dir := t.TempDir()
	l := &lab{
		t: t, observed: o, docker: true, changes: make(chan struct{}, 1), ruled: make(chan struct{}, 1), sockets: map[uint16]string{},
		fdb:      &fakeFDB{entries: map[fdbEntry]netlink.Neigh{}},
		conf:     filepath.Join(dir, "conf"),
		programs: map[int][]string{},
		paths: loader.Paths{
			Instance: "test", State: filepath.Join(dir, "lib", "state.json"), Run: filepath.Join(dir, "run"),
			Socket: filepath.Join(dir, "run", "s"), Lock: filepath.Join(dir, "run", "l"), Log: filepath.Join(dir, "log", "l"),
			Docker: filepath.Join(dir, "run", "d"),
		},
	}
	for _, b := range o.Bridges {
		l.setSysctl(b.Name, "0")
	}
	return l
}

func (l *lab) setSysctl(bridge, value string) {
	l.t.Helper()
	file := filepath.Join(l.conf, bridge, routeLocalnet)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) sysctl(bridge string) string {
	l.t.Helper()
	v, err := sysctls{root: l.conf}.read(bridge, routeLocalnet)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

// settle waits until the agent has ended the look at the host that it is at.
func (l *lab) settle() {
	l.t.Helper()
	if err := l.agent.enter(l.t.Context(), func(context.Context) error { return nil }); err != nil {
		l.t.Fatal(err)
	}
}

// start runs an agent until the test ends, or stopAgent.
func (l *lab) start(background bool) {
	l.t.Helper()
	state, err := LoadState(l.paths.State)
	if err != nil {
		l.t.Fatal(err)
	}
	host := Host{
		Observer:         l,
		LoadDatapath:     l.load,
		RemoveDatapath:   l.remove,
		RemoveOverlay:    func() error { return nil },
		Overlay:          noOverlay{},
		Listening:        l.listening,
		EndUDP:           func(map[uint64]bool) (int, error) { return 0, nil },
		Forwards:         func() (bool, error) { return true, nil },
		Inside:           func(int) (observe.Pair, error) { return observe.Pair{}, errors.New("not in a lab") },
		DeviceExists:     func(name string) bool { return name == "veth0" },
		BridgePorts:      func([]string) (map[int]bool, error) { return map[int]bool{}, nil },
		FDB:              l.fdb,
		Sysctls:          sysctls{root: l.conf},
		OpenConntrack:    func() (Conntrack, error) { return noConntrack{}, nil },
		ListenConntrack:  func() (offload.Events, error) { return noConntrack{make(chan struct{})}, nil },
		Route:            noRoute,
		ObserveReconcile: func(time.Duration, error) {},
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := Options{
		Paths: l.paths, Version: "test", MetricsAddr: "off", Resync: time.Hour, Background: background,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if l.options != nil {
		l.options(&o)
	}
	ready := make(chan struct{})
	o.Ready = func(error) { close(ready) }
	l.agent = newAgent(o, host, state)
	l.client = client.New(l.paths.Socket)
	l.ended = make(chan struct{})
	l.stop = cancel
	go func() {
		defer close(l.ended)
		defer l.agent.close()
		if err := l.agent.run(ctx, cancel); err != nil {
			l.t.Errorf("run: %v", err)
			close(ready)
		}
	}()
	l.t.Cleanup(l.stopAgent)
	<-ready
}

func (l *lab) stopAgent() {
	l.stop()
	l.awaitEnd()
}

func (l *lab) awaitEnd() {
	l.t.Helper()
	select {
	case <-l.ended:
	case <-time.After(5 * time.Second):
		l.t.Fatal("the agent does not end")
	}
}

// change changes the host, and tells the agent.
func (l *lab) change(f func(*policy.Observed)) {
	l.mu.Lock()
	f(&l.observed)
	l.mu.Unlock()
	select {
	case l.changes <- struct{}{}:
	default:
	}
}

// await polls until f holds.
func (l *lab) await(what string, f func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		ok := f()
		l.mu.Unlock()
		if ok {
			return
		}
	}
	l.t.Fatalf("never: %s; operations: %q", what, l.ops)
}

func (l *lab) takeOps() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ops := l.ops
	l.ops = nil
	return ops
}

func (l *lab) op(format string, args ...any) { l.ops = append(l.ops, fmt.Sprintf(format, args...)) }

func (l *lab) Observe(context.Context) (policy.Observed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.observed
	o.ForeignRules = l.foreign
	o.Endpoints, o.Bridges, o.Containers = slices.Clone(o.Endpoints), slices.Clone(o.Bridges), slices.Clone(o.Containers)
	return o, nil
}

func (l *lab) Changes() <-chan struct{} { return l.changes }
func (l *lab) Ruled() <-chan struct{}   { return l.ruled }
func (l *lab) ForgetRules()             {}

func (l *lab) Torn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	torn := l.torn
	l.torn = false
	return torn
}
func (l *lab) Docker() bool       { return l.docker }
func (l *lab) Problems() []string { return nil }

func (l *lab) load() (Datapath, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loadError != nil {
		return nil, l.loadError
	}
	l.pinned = true
	return &fakeDatapath{l}, nil
}

func (l *lab) remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.op("remove")
	l.programs, l.tables, l.pinned = map[int][]string{}, maps.State{}, false
	return nil
}

func (l *lab) listening(_ netip.Addr, first, last uint16, _ uint8) (string, error) {
	for p := int(first); p <= int(last); p++ {
		if who := l.sockets[uint16(p)]; who != "" {
			return fmt.Sprintf("port %d is listened on by %s on the host", p, who), nil
		}
	}
	return "", nil
}

// fakeDatapath is the kernel's side of a lab.
type fakeDatapath struct{ *lab }

func (d *fakeDatapath) put(ifindex int, kind string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("attach %s %d", kind, ifindex)
	d.programs[ifindex] = []string{"from_" + kind, "to_" + kind}
	return nil
}

func (d *fakeDatapath) AttachVeth(i int) error   { return d.put(i, "container") }
func (d *fakeDatapath) AttachBridge(i int) error { return d.put(i, "bridge") }
func (d *fakeDatapath) AttachUplink(i int) error { return d.put(i, "uplink") }

func (d *fakeDatapath) AttachOverlay(i int) error { return d.put(i, "overlay") }
func (d *fakeDatapath) AttachNear(i int) error    { return d.put(i, "near") }
func (d *fakeDatapath) AttachFar(i int) error     { return d.put(i, "far") }

// noOverlay is a host that nobody reaches.
type noOverlay struct{}

func (noOverlay) FindPublic(netip.Addr, string) (tunnel.Public, error) {
	return tunnel.Public{}, errors.New("not in a lab")
}
func (noOverlay) Near([]netip.Addr) (map[netip.Addr]int, error) { return nil, nil }
func (noOverlay) Ensure(tunnel.Device) (int, string, error)     { return 0, "", errors.New("not in a lab") }
func (noOverlay) EnsurePair(tunnel.Device) (int, int, string, error) {
	return 0, 0, "", errors.New("not in a lab")
}
func (noOverlay) RoutesMark() (uint64, error)               { return 0, nil }
func (noOverlay) LearntMTUs() (map[netip.Addr]int, error)   { return nil, nil }
func (noOverlay) Reserve(netip.AddrPort) (io.Closer, error) { return nil, errors.New("not in a lab") }
func (noOverlay) Remove(string) error                       { return nil }
func (noOverlay) SyncRoutes([]tunnel.Route) error           { return nil }

func (d *fakeDatapath) AttachSockets() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("attach sockets")
	return nil
}

func (d *fakeDatapath) Detach(i int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("detach %d", i)
	delete(d.programs, i)
	return nil
}

func (d *fakeDatapath) DetachSockets() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("detach sockets")
	return nil
}

func (d *fakeDatapath) Attached() (map[int]loader.Hooks, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hooks := map[int]loader.Hooks{}
	for i, p := range d.programs {
		hooks[i] = loader.Hooks{Kind: "tcx", Programs: p}
	}
	return hooks, nil
}

func (d *fakeDatapath) Features() loader.Features { return loader.Features{TicksPerSecond: 100} }
func (d *fakeDatapath) Hook() string              { return "tcx" }
func (d *fakeDatapath) Notes() []string           { return nil }
func (d *fakeDatapath) Problems() []string        { return nil }
func (d *fakeDatapath) Close()                    {}

func (d *fakeDatapath) NewTrial([]string, []maps.FlowEntry) (*loader.Trial, error) {
	return nil, errors.New("not in a lab")
}

func (d *fakeDatapath) MoveEpoch() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("move epoch")
	return nil
}
func (d *fakeDatapath) Flow(bpf.FlowKey) (bpf.Flow, bool, error)                    { return bpf.Flow{}, false, nil }
func (d *fakeDatapath) DeleteFlow(bpf.FlowKey, func(*bpf.Flow) bool) (bool, error)  { return false, nil }
func (d *fakeDatapath) DeleteFlows(func(*bpf.FlowKey, *bpf.Flow) bool) (int, error) { return 0, nil }

func (d *fakeDatapath) FlowsWith(map[uint32]bool, int) ([]maps.FlowEntry, error) { return nil, nil }

func (d *fakeDatapath) Events() (monitor.Source, error) { return nil, errors.New("not in a lab") }

func (d *fakeDatapath) Slots() policy.Slots {
	return policy.Slots{Endpoints: 100, Bridges: 10, Published: 100}
}
func (d *fakeDatapath) Load() (maps.State, error)    { return d.lab.tables, nil }
func (d *fakeDatapath) ClearBridgeSlot(uint16) error { return nil }

func (d *fakeDatapath) ClearPublishSlot(uint16) error                { return nil }
func (d *fakeDatapath) KeepPeers(map[bpf.AddrKey]bpf.PeerHost) error { return nil }
func (d *fakeDatapath) Tallies() ([]uint64, error) {
	return make([]uint64, bpf.DatapathTallyTALLY_MAX), nil
}
func (d *fakeDatapath) PublishStats(uint16) (bpf.PublishCounters, error) {
	return bpf.PublishCounters{}, nil
}
func (d *fakeDatapath) PeerStats(bpf.AddrKey) (bpf.PeerCounters, error) {
	return bpf.PeerCounters{}, nil
}
func (d *fakeDatapath) Programs() ([]metrics.Program, error) { return nil, nil }
func (d *fakeDatapath) Written() ([]maps.Fill, error)        { return nil, nil }

func (d *fakeDatapath) ClearEndpointSlot(slot uint16) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op("clear %d", slot)
	return nil
}

func (d *fakeDatapath) Sync(want maps.State, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.syncError != nil {
		return d.syncError
	}
	d.op("sync")
	d.lab.tables = want
	return nil
}

func (d *fakeDatapath) DeleteFlowsOf(ids map[uint32]bool) (map[uint8]int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range ids {
		d.op("purge %d", id)
	}
	return map[uint8]int{6: len(ids)}, nil
}

func (d *fakeDatapath) ForgetSockets(func(bpf.SockKey, bpf.Sock) bool) (map[uint64]bool, error) {
	return nil, nil
}

func (d *fakeDatapath) PathStats(uint16) ([]bpf.Counter, error) { return nil, nil }
func (d *fakeDatapath) DropStats() ([]bpf.Counter, error)       { return nil, nil }
func (d *fakeDatapath) PassStats() ([]bpf.Counter, error)       { return nil, nil }
func (d *fakeDatapath) EndpointStats(uint16) (bpf.EndpointCounters, error) {
	return bpf.EndpointCounters{Rx: bpf.Counter{Packets: 7}}, nil
}

func (d *fakeDatapath) Now() (uint32, error)        { return 1000, nil }
func (d *fakeDatapath) Config() (bpf.Config, error) { return bpf.Config{}, nil }
func (d *fakeDatapath) Fill() []maps.Fill {
	return []maps.Fill{{Name: "veths", Entries: 1, Capacity: 100}}
}

func (d *fakeDatapath) Flows(fn func(*maps.FlowRow) bool) error {
	for i := range d.flows {
		if !fn(&d.flows[i]) {
			break
		}
	}
	return nil
}

func (d *fakeDatapath) Settle() error                      { return nil }
func (d *fakeDatapath) Adopt(*maps.Adoption) (bool, error) { return true, nil }
func (d *fakeDatapath) BeginNothing(map[uint32]bool) error { return nil }

func (d *fakeDatapath) FlowEntries(fn func(*bpf.FlowKey, *bpf.Flow)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.walks++
	for i := range d.flows {
		fn(&d.flows[i].Key, &d.flows[i].Flow)
		if r := d.flows[i].Reply; r != nil {
			key := bpf.FlowKey{Saddr: d.flows[i].Flow.Daddr, Daddr: d.flows[i].Flow.Saddr, Sport: d.flows[i].Flow.Dport, Dport: d.flows[i].Flow.Sport}
			fn(&key, r)
		}
	}
	return nil
}

func (d *fakeDatapath) Expire(uint32, bpf.Config) (maps.Sweep, error) {
	return maps.Sweep{Flows: []maps.FlowCount{{Proto: 6, State: "established", Count: 2}}}, nil
}

var errBroken = errors.New("out of memory")

// dockerHost is docker0 with web (ifindex 5) on it, br1 without an address, and an uplink.
func dockerHost() policy.Observed {
	return policy.Observed{
		Bridges: []policy.Bridge{
			{Name: "docker0", Index: 2, MTU: 1500, MAC: mac(1), Addrs: prefixes("172.17.0.1/16")},
			{Name: "br1", Index: 3, MTU: 1500, MAC: mac(2)},
		},
		Uplinks: []policy.Uplink{
			{Name: "eth0", Index: 1, MTU: 1500, Addrs: prefixes("192.0.2.10/24"), DefaultRoute: true, Ethernet: true},
			{Name: "wg0", Index: 9, MTU: 1420, Addrs: prefixes("10.9.0.1/24")},
		},
		HostAddrs: []policy.HostAddr{
			{Prefix: prefixes("192.0.2.10/24")[0], Index: 1}, {Prefix: prefixes("172.17.0.1/16")[0], Index: 2},
		},
		Endpoints:  []policy.Endpoint{endpoint("vethweb", 5, 2, "172.17.0.2/16")},
		Containers: []policy.Container{container("web", "aaaa1111", "172.17.0.2")},
		Networks:   []policy.Network{{ID: "n0", Name: "bridge", Bridge: "docker0", Subnets: prefixes("172.17.0.0/16")}},
	}
}

func endpoint(veth string, index, bridge int, addr string) policy.Endpoint {
	return policy.Endpoint{Veth: veth, Index: index, Bridge: bridge, NSID: index, PeerName: "eth0", PeerIndex: index + 100, MAC: mac(byte(index)),
		MTU: 1500, Addrs: prefixes(addr)}
}

func container(name, id, addr string) policy.Container {
	return policy.Container{ID: id, Name: name, NetworkMode: "bridge",
		Attachments: []policy.Attachment{{Network: "bridge", NetworkID: "n0", Addr: netip.MustParseAddr(addr)}}}
}

func prefixes(s ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
