package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/metrics"
)

// memoryLimit is what the agent's heap should not outgrow: reading the kernel's types takes much more for a moment than the agent needs to
// live, and Go would keep that.
const memoryLimit = 40 << 20

// stopTimeout is how long answers that are under way may take once the agent is told to stop.
const stopTimeout = time.Second

// Run is an agent's life: until ctx ends, which leaves the datapath running, or until `detach --all` where attach started it.
func Run(ctx context.Context, o Options) error {
	debug.SetMemoryLimit(memoryLimit)
	lock, err := AcquireLock(o.Paths.Lock)
	if err != nil {
		return err
	}
	defer removeEmpty(o.Paths.Run)
	defer lock.Release()
	state, err := LoadState(o.Paths.State)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := realHost(ctx, o)
	if err != nil {
		return err
	}
	a := newAgent(o, host, state)
	defer a.close()
	debug.FreeOSMemory()
	return a.run(ctx, cancel)
}

func (a *Agent) run(ctx context.Context, cancel context.CancelFunc) error {
	m, err := metrics.New(a.o.Version, a, a.log)
	if err != nil {
		return err
	}
	a.host.ObserveReconcile = m.ObserveReconcile
	stopMetrics, err := a.serveMetrics(m.Handler())
	if err != nil {
		return err
	}
	defer stopMetrics()
	notify := &notifier{log: a.log}
	notify.status("starting", false)
	if wantsDatapath(a.state.Intent) {
		if err := a.start(ctx); err != nil {
			return err
		}
	}
	a.prepare()
	defer a.leaveUnused()
	listener, err := listenSocket(a.o.Paths.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.handler(ctx), ReadHeaderTimeout: stopTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		var wg sync.WaitGroup
		for _, loop := range []func(context.Context){a.sweepLoop, a.rulesLoop, a.carrier.Run} {
			wg.Go(func() { loop(ctx) })
		}
		wg.Wait()
	}()

	a.log.Info("ready", "pid", os.Getpid(), "socket", a.o.Paths.Socket, "metrics", a.metricsURL, "version", a.o.Version)
	a.o.Ready(nil)
	notify.status(a.summary(), true)
	a.loop(ctx, notify)

	notify.stopping()
	a.stopMember()
	quit := a.quit
	a.stopServer(server, cancel)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		a.log.Error("serve requests", "error", err)
	}
	<-swept
	os.Remove(a.o.Paths.Socket)
	a.log.Info("stopped", "datapath", a.dp != nil)
	if quit {
		removeLog(a.o.Paths.Log)
	}
	return a.fatal
}

// start puts the state file's intent to work. Programs that cannot be loaded end the agent; those of before go on.
func (a *Agent) start(ctx context.Context) error {
	// What keeps this from working is found again, and told, by the look.
	_ = a.findNetwork(ctx)
	if err := a.ensureDatapath(); err != nil {
		return err
	}
	if err := a.reconcile(ctx, true); err != nil {
		a.log.Warn("start with problems", "error", err)
	}
	return nil
}

// stopServer lets answers that are under way be given, and takes no new requests.
func (a *Agent) stopServer(s *http.Server, cancel context.CancelFunc) {
	cancel() // requests that wait for the loop are answered by errStopping
	ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
	defer stop()
	if err := s.Shutdown(ctx); err != nil {
		s.Close()
	}
}

func (a *Agent) close() {
	a.watchWith(nil)
	a.tables.Lock()
	defer a.tables.Unlock()
	if a.dp != nil {
		a.dp.Close()
		a.dp = nil
	}
}

// serveMetrics listens for scrapes. An address that the user did not choose may be taken: then there are none, and a problem says so.
func (a *Agent) serveMetrics(h http.Handler) (stop func(), err error) {
	if a.o.MetricsAddr == "off" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", a.o.MetricsAddr)
	if err != nil {
		err = fmt.Errorf("serve metrics: %w", err)
		if a.o.MetricsExplicit {
			return nil, err
		}
		a.problems["metrics"] = []string{err.Error() + ": give the agent another --metrics-addr"}
		a.publishView()
		a.log.Warn("no metrics", "error", err)
		return func() {}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	a.addPage(mux, l.Addr())
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("serve metrics", "error", err)
		}
	}()
	a.metricsURL = "http://" + l.Addr().String() + "/metrics"
	return func() { s.Close() }, nil
}

// probe finds out early whether this kernel and host can carry a datapath at all.
func probe(p loader.Paths) (loader.Features, error) {
	if err := loader.CheckBPFFS(p); err != nil {
		return loader.Features{}, err
	}
	f, err := loader.Probe()
	if err != nil {
		return f, err
	}
	if missing := f.Missing(); len(missing) > 0 {
		return f, fmt.Errorf("kernel %s lacks %s", f.Release, enumerate(missing))
	}
	return f, nil
}
