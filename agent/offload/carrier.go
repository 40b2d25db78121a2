package offload

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/agent/handover"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Table is the kernel's table of tracked connections: a *conntrack.Table.
type Table interface {
	List() ([]conntrack.Entry, error)
	Loosen(orig conntrack.Tuple) error
	Close()
}

// Events tells what becomes of tracked connections: a *conntrack.Events.
type Events interface {
	Receive() ([]conntrack.Event, error)
	Close()
}

// Flows is the flow table.
type Flows interface {
	Now() (uint32, error)
	Config() (bpf.Config, error)
	Flow(bpf.FlowKey) (bpf.Flow, bool, error)
	Adopt(*maps.Adoption) (bool, error)
	DeleteFlow(key bpf.FlowKey, match func(*bpf.Flow) bool) (bool, error)
	Flows(func(*maps.FlowRow) bool) error
}

// Host is what a Carrier sees and changes.
type Host struct {
	Open   func() (Table, error)
	Listen func() (Events, error)
	// Flows calls f with the flow table, which stays open meanwhile. Out: an error where there is none.
	Flows func(f func(Flows) error) error
	// Route is a new handover.World.Route for each batch: it may remember its answers.
	Route  func() func(bridge uint32, src, dst netip.Addr) (oif uint32, nexthop netip.Addr, ok bool)
	Second uint32 // ticks in one
	Log    *slog.Logger
}

const (
	// settling is the time that a connection has to have been established for: most are over by then, and not worth an entry.
	settling = 100 * time.Millisecond
	// dumpInterval is the time between two looks at the whole table, for what no event has told; a look that takes long is made less often.
	dumpInterval = 5 * time.Second
	dumpShare    = 50
	// retryInterval is the time to let pass after a failure.
	retryInterval = time.Second
)

// Carrier is the one that does it.
type Carrier struct {
	host    Host
	changed chan struct{}

	mu    sync.Mutex // held while flows are entered
	world *handover.World
}

// New makes a Carrier for no bridge.
func New(h Host) *Carrier { return &Carrier{host: h, changed: make(chan struct{}, 1)} }

// Set says what is to be carried from now on: the flows of the bridges of a world, whose time, epoch and routes are the Carrier's to fill in; or
// nothing, with nil. When it returns nothing is entered any more that only the world before asked for. The world must not be changed afterwards.
func (c *Carrier) Set(w *handover.World) {
	c.mu.Lock()
	same := c.world == nil && w == nil
	c.world = w
	c.mu.Unlock()
	if same {
		return
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Carrier) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.world == nil
}

// Run carries until the context ends.
func (c *Carrier) Run(ctx context.Context) {
	said := ""
	for {
		if c.idle() {
			select {
			case <-ctx.Done():
				return
			case <-c.changed:
			}
			continue
		}
		err := c.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
			continue
		case err.Error() != said:
			said = err.Error()
			c.host.Log.Error("offload: established connections stay with the kernel until this is mended", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
		}
	}
}

// follow carries until nothing is asked for any more, or something fails.
func (c *Carrier) follow(ctx context.Context) error {
	table, err := c.host.Open()
	if err != nil {
		return err
	}
	defer table.Close()
	listener, err := c.host.Listen()
	if err != nil {
		return err
	}
	told := make(chan told, 16)
	ended := make(chan struct{})
	go receive(listener, told, ended)
	defer func() { close(ended); listener.Close() }()

	pending := map[conntrack.Tuple]settlingEntry{}
	settled := time.NewTicker(settling)
	defer settled.Stop()
	dump := time.NewTimer(0)
	defer dump.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
			if c.idle() {
				return nil
			}
			dump.Reset(0)
		case t := <-told:
			switch {
			case errors.Is(t.err, conntrack.ErrLost):
				dump.Reset(0)
			case t.err != nil:
				return t.err
			}
			if err := c.hear(t.events, pending); err != nil {
				return err
			}
		case now := <-settled.C:
			if err := c.enterSettled(table, pending, now); err != nil {
				return err
			}
		case <-dump.C:
			began := time.Now()
			if err := c.compare(table); err != nil {
				return err
			}
			dump.Reset(max(dumpInterval, dumpShare*time.Since(began)))
		}
	}
}

// told is what a Receive gave.
type told struct {
	events []conntrack.Event
	err    error
}

func receive(l Events, out chan<- told, ended <-chan struct{}) {
	for {
		events, err := l.Receive()
		select {
		case out <- told{events, err}:
		case <-ended:
			return
		}
		if err != nil && !errors.Is(err, conntrack.ErrLost) {
			return
		}
	}
}

// settlingEntry is a connection that has been established a moment ago.
type settlingEntry struct {
	entry conntrack.Entry
	since time.Time
}

// hear takes out what is gone, and puts down what is established.
func (c *Carrier) hear(events []conntrack.Event, pending map[conntrack.Tuple]settlingEntry) error {
	now := time.Now()
	var gone []*conntrack.Entry
	for i := range events {
		e := &events[i]
		if e.Gone || e.Entry.Orig.Proto == protoTCP && e.Entry.TCP != conntrack.TCPEstablished {
			delete(pending, e.Entry.Orig)
		} else if _, known := pending[e.Entry.Orig]; !known {
			pending[e.Entry.Orig] = settlingEntry{e.Entry, now}
		}
		if e.Gone {
			gone = append(gone, &e.Entry)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return c.host.Flows(func(f Flows) error {
		for _, e := range gone {
			if err := forget(f, e); err != nil {
				return err
			}
		}
		return nil
	})
}

const protoTCP = 6

// forget takes a connection's flow out.
func forget(f Flows, e *conntrack.Entry) error {
	for _, key := range handover.Keys(e) {
		if _, err := f.DeleteFlow(key, func(f *bpf.Flow) bool { return handover.Of(f, e) }); err != nil {
			return err
		}
	}
	return nil
}

// enterSettled enters what has been established for long enough.
func (c *Carrier) enterSettled(t Table, pending map[conntrack.Tuple]settlingEntry, now time.Time) error {
	var ready []conntrack.Entry
	for orig, p := range pending {
		if now.Sub(p.since) >= settling {
			ready = append(ready, p.entry)
			delete(pending, orig)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	_, err := c.enter(t, ready)
	return err
}

// compare makes the flow table agree with the kernel's.
func (c *Carrier) compare(t Table) error {
	list, err := t.List()
	if err != nil {
		return err
	}
	entered, err := c.enter(t, list)
	if err != nil {
		return err
	}
	there := make(map[conntrack.Tuple]conntrack.Tuple, len(list))
	for i := range list {
		there[list[i].Orig] = list[i].Reply
	}
	var gone []conntrack.Entry
	err = c.host.Flows(func(f Flows) error {
		err := f.Flows(func(r *maps.FlowRow) bool {
			e, offloaded := handover.Offloaded(r)
			if reply, ok := there[e.Orig]; offloaded && (!ok || reply != e.Reply) {
				gone = append(gone, e)
			}
			return true
		})
		for i := range gone {
			if err == nil {
				err = forget(f, &gone[i])
			}
		}
		return err
	})
	if entered > 0 || len(gone) > 0 {
		c.host.Log.Debug("offload: compared", "tracked", len(list), "entered", entered, "gone", len(gone))
	}
	return err
}

// enter enters those of the connections that are to be carried and are not yet. Out: how many.
func (c *Carrier) enter(t Table, list []conntrack.Entry) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.world == nil {
		return 0, nil
	}
	w := *c.world
	w.Route = c.host.Route()
	entered := 0
	err := c.host.Flows(func(f Flows) error {
		var err error
		if w.Now, err = f.Now(); err != nil {
			return err
		}
		cfg, err := f.Config()
		if err != nil {
			return err
		}
		w.Epoch = cfg.Epoch
		for i := range list {
			a, ok := w.Carry(&list[i], c.host.Second)
			if !ok {
				continue
			}
			added, err := enterOne(t, f, a, list[i].Orig)
			if err != nil {
				return err
			}
			if added {
				entered++
			}
		}
		return nil
	})
	return entered, err
}

// enterOne enters a flow, unless it is there. What stands in its place otherwise is a half of it, or the same tuple as it was translated before, or
// as it was decided here before the rules were asked: nobody's any more. The kernel has to be told before it stops seeing each packet.
func enterOne(t Table, f Flows, a *maps.Adoption, orig conntrack.Tuple) (bool, error) {
	halves := []half{{a.Key, &a.Flow}, {a.ReplyKey, &a.Reply}}
	whole := 0
	for _, h := range halves {
		old, there, err := f.Flow(h.key)
		if err != nil {
			return false, err
		}
		if there && handover.Carried(&old, h.flow) {
			whole++
		}
	}
	if whole == len(halves) {
		return false, nil
	}
	for _, h := range halves {
		if _, err := f.DeleteFlow(h.key, func(f *bpf.Flow) bool { return handover.InPlaceOf(f, h.flow) }); err != nil {
			return false, err
		}
	}
	if orig.Proto == protoTCP {
		err := t.Loosen(orig)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return f.Adopt(a)
}

// half is one direction of a flow.
type half struct {
	key  bpf.FlowKey
	flow *bpf.Flow
}
