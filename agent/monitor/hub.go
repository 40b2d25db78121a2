package monitor

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Source is where events come from: a loaded datapath. One is open only while somebody looks.
type Source interface {
	// Tell says which events are made: drops, and all else.
	Tell(drops, trace bool) error
	// Read waits for an event; os.ErrClosed after Close.
	Read(*bpf.Event) error
	// Lost is how many found no room, ever.
	Lost() (uint64, error)
	Close() error
}

// backlog is how many events wait for a subscriber who is slower than they come, before they are counted as lost to him.
const backlog = 8192

// Hub reads the source for its subscribers. The zero value has no source. Its methods are safe for concurrent use.
type Hub struct {
	mu     sync.Mutex
	open   func() (Source, error) // nil: there is no datapath
	source Source                 // nil while nobody looks
	ended  chan struct{}          // closed when the source's reader has ended
	subs   map[*Subscription]struct{}
	failed func(error)
}

// New makes a hub without a source. failed hears, from any goroutine, why events have ended by themselves.
func New(failed func(error)) *Hub {
	return &Hub{subs: map[*Subscription]struct{}{}, failed: failed}
}

// Use takes events from what open gives, in place of what was used before; nil: from nowhere. Subscribers stay, and see no difference but
// in what they are told. After Use(nil) nothing of the old source is in use.
func (h *Hub) Use(open func() (Source, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = open // first: stop lets others in
	h.stop()
	return h.update()
}

// Subscribers tells how many look.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs)
}

// update makes the source what the subscribers want.
func (h *Hub) update() error {
	if len(h.subs) == 0 || h.open == nil {
		h.stop()
		return nil
	}
	if h.source == nil {
		s, err := h.open()
		if err != nil {
			return err
		}
		h.source, h.ended = s, make(chan struct{})
		lost, err := s.Lost()
		if err != nil {
			lost = 0
		}
		for sub := range h.subs {
			sub.seenLost = lost
		}
		go h.read(s, h.ended)
	}
	trace := false
	for sub := range h.subs {
		trace = trace || sub.trace
	}
	return h.source.Tell(true, trace)
}

// stop has the source tell nothing, and gives it up. It lets go of the lock for a moment.
func (h *Hub) stop() {
	if h.source == nil {
		return
	}
	s, ended := h.source, h.ended
	h.source = nil
	if err := s.Tell(false, false); err != nil {
		h.failed(err)
	}
	s.Close()
	// The reader may be waiting to hand an event on.
	h.mu.Unlock()
	<-ended
	h.mu.Lock()
}

func (h *Hub) read(s Source, ended chan struct{}) {
	defer close(ended)
	var e bpf.Event
	for {
		if err := s.Read(&e); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				h.failed(err)
			}
			return
		}
		h.mu.Lock()
		for sub := range h.subs {
			sub.offer(e)
		}
		h.mu.Unlock()
	}
}

// Subscription is one who looks.
type Subscription struct {
	// Events are those since Subscribe, but for those lost.
	Events <-chan bpf.Event

	hub      *Hub
	events   chan bpf.Event
	trace    bool
	since    uint64 // of CLOCK_MONOTONIC, in nanoseconds
	dropped  uint64
	seenLost uint64
}

// Subscribe begins to look: at drops, and with trace at all else too. Close ends it.
func (h *Hub) Subscribe(trace bool) (*Subscription, error) {
	events := make(chan bpf.Event, backlog)
	s := &Subscription{Events: events, hub: h, events: events, trace: trace, since: Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.source != nil {
		var err error
		if s.seenLost, err = h.source.Lost(); err != nil {
			return nil, err
		}
	}
	h.subs[s] = struct{}{}
	if err := h.update(); err != nil {
		delete(h.subs, s)
		return nil, err
	}
	return s, nil
}

// Close ends the look. The last one's ends the datapath's telling.
func (s *Subscription) Close() error {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.subs, s)
	return s.hub.update()
}

func (s *Subscription) offer(e bpf.Event) {
	if e.Time < s.since || e.Drop == 0 && !s.trace {
		return
	}
	select {
	case s.events <- e:
	default:
		s.dropped++
	}
}

// Lost tells how many events have been lost since it was asked last: in the kernel's ring, or waiting here.
func (s *Subscription) Lost() (uint64, error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	n := s.dropped
	s.dropped = 0
	if s.hub.source == nil {
		return n, nil
	}
	total, err := s.hub.source.Lost()
	if err != nil {
		return n, err
	}
	n += total - s.seenLost
	s.seenLost = total
	return n, nil
}

// Now is the moment that events' times are compared with: CLOCK_MONOTONIC, in nanoseconds.
func Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return uint64(ts.Nano())
}
