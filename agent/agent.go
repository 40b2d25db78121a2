package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/monitor"
	"github.com/ebpfnet/ebpfnet/agent/offload"
	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/policy"
)

// Options are what an agent is told when it starts.
type Options struct {
	Paths           loader.Paths
	Version         string
	DockerHost      string // empty: the usual place
	Settings        loader.Settings
	Asked           []string // names of the flags that were given: of the sizes, tables that are there already get only these
	MetricsAddr     string   // "off": none
	MetricsExplicit bool     // the user named it: no metrics there is an error
	Page            PageMode
	PageHosts       []string // names, beside the usual ones, that the page may be asked for under
	Debug           bool     // profiles on the unix socket
	Resync          time.Duration
	Background      bool // started by attach: `detach --all` ends it
	Overlay         OverlayOptions
	Policies        string // folder of rules; empty: none
	Log             *slog.Logger
	Ready           func(error) // called once, with nil
}

// Agent is a running agent. Its fields up to the channel belong to the run loop.
type Agent struct {
	o    Options
	host Host
	log  *slog.Logger

	state    State
	ids      *policy.Identities
	settled  policy.Result  // as it was put to work last
	devices  map[int]device // that have programs of ours, by ifindex
	ports    map[int]bool   // bridge ports that may have forwarding entries of ours
	entries  map[fdbEntry]bool
	sockets  bool   // the socket programs are attached
	said     []byte // what Docker said, as it was kept last
	problems map[string][]string
	retry    retry
	fatal    error // why the loop has ended by itself
	quit     bool  // end, having nothing to look after

	prepared prepared
	overlay  membership
	monitor  *monitor.Hub
	carrier  *offload.Carrier
	rules    foreignRules
	again    chan struct{} // asks for a look

	policies policyFolder
	spoofed  uint64 // packets that were dropped as such, when they were counted last

	metricsURL string // empty: none; set before the loop starts
	pageURL    string // the same
	born       time.Time
	watch      watch

	requests chan request

	// tables guards dp against being closed while it is read from outside the loop.
	tables sync.RWMutex
	dp     Datapath // nil while nothing is attached

	view  atomic.Pointer[view]
	sweep atomic.Pointer[sweep]

	// purged are the flows that went with their containers since the agent began, by protocol. Only the loop changes it.
	purged atomic.Pointer[map[string]int]
}

// device is one that has programs of ours. An ifindex may be another device's by the next look; the name tells, since two changes within
// one look are rare and the resync asks the kernel.
type device struct {
	name string
	kind deviceKind
}

type deviceKind int

const (
	unknownDevice deviceKind = iota // attached by an agent before this one
	vethDevice
	bridgeDevice
	uplinkDevice
	overlayDevice
	nearDevice
	farDevice
)

func newAgent(o Options, h Host, s State) *Agent {
	a := &Agent{o: o, host: h, log: o.Log, state: s, problems: map[string][]string{}, requests: make(chan request), born: time.Now()}
	a.overlay = membership{failed: make(chan error, 1), name: tunnel.DeviceName(o.Paths.Instance, loader.DefaultInstance), device: true, routes: true}
	a.policies.dir = o.Policies
	a.monitor = monitor.New(func(err error) { a.log.Error("events", "error", err) })
	a.carrier = newCarrier(a)
	a.again = make(chan struct{}, 1)
	a.publishView()
	return a
}

// errStopping answers requests that come too late.
var errStopping = errors.New("the agent is stopping")

// request is a piece of work for the run loop.
type request struct {
	do   func(context.Context) error
	done chan error
}

// enter has the run loop do something, and waits for it. What has begun is done to its end even where the asker has gone.
func (a *Agent) enter(ctx context.Context, do func(context.Context) error) error {
	r := request{do: do, done: make(chan error, 1)}
	select {
	case a.requests <- r:
	case <-ctx.Done():
		return errStopping
	}
	return <-r.done
}

// Between two looks at the host that wake-ups cause there is as much time as the last one took, within these bounds: a container's start is
// a dozen wake-ups, and what comes within them should not wait for long.
const (
	minGap = 5 * time.Millisecond
	maxGap = 50 * time.Millisecond
)

// gap is the time to let pass after a look that took that long.
func gap(look time.Duration) time.Duration { return min(max(look, minGap), maxGap) }

// loop changes things until the context ends or nothing is left to look after.
func (a *Agent) loop(ctx context.Context, notify *notifier) {
	resync := time.NewTicker(a.o.Resync)
	defer resync.Stop()
	// A look that is put off. The first one sees what changed between the agent's start and the moment from which it is told of changes.
	due := time.NewTimer(firstRetry)
	defer due.Stop()
	paths := time.NewTicker(pathsEvery)
	defer paths.Stop()
	alive := make(<-chan time.Time)
	if d := notify.watchdogInterval(); d > 0 {
		t := time.NewTicker(d)
		defer t.Stop()
		alive = t.C
	}
	folder := time.NewTicker(policyPoll)
	defer folder.Stop()
	var last time.Time
	var took time.Duration
	look := func(full bool) {
		due.Stop()
		began := time.Now()
		if err := a.reconcile(ctx, full); err != nil && ctx.Err() == nil {
			due.Reset(a.retry.next())
		} else {
			a.retry.reset()
		}
		last = time.Now()
		took = last.Sub(began)
		notify.status(a.summary(), true)
	}
	for !a.quit {
		select {
		case <-ctx.Done():
			return
		case r := <-a.requests:
			r.done <- r.do(ctx)
			last = time.Now()
			notify.status(a.summary(), true)
		case err := <-a.overlay.failed:
			a.fatal = err
			return
		case <-a.overlayChanges():
			look(false)
		case <-a.host.Observer.Changes():
			if wait := gap(took) - time.Since(last); wait > 0 {
				due.Reset(wait)
			} else {
				look(false)
			}
		case <-a.again:
			look(false)
		case <-due.C:
			look(a.retry.failing())
		case <-folder.C:
			if a.policies.changed() || a.strange() {
				look(false)
			}
		case <-resync.C:
			look(true)
		case <-paths.C:
			if a.pathsChanged() {
				look(false)
			}
		case <-alive:
			notify.alive()
		}
	}
}

// strange tells whether somebody has sent with an address that is not his since it was asked last. It may have been given to him in the meantime:
// nobody tells of that but he.
func (a *Agent) strange() bool {
	if a.dp == nil {
		return false
	}
	drops, err := a.dp.DropStats()
	if err != nil || len(drops) <= int(bpf.DatapathDropReasonDROP_SPOOFED) {
		return false
	}
	now := drops[bpf.DatapathDropReasonDROP_SPOOFED].Packets
	was := a.spoofed
	a.spoofed = now
	return now > was
}

// retry is the time between attempts to do what has failed.
type retry struct{ delay time.Duration }

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

func (r *retry) next() time.Duration {
	r.delay = min(max(2*r.delay, firstRetry), lastRetry)
	return r.delay
}

func (r *retry) failing() bool { return r.delay > 0 }

func (r *retry) reset() { r.delay = 0 }
