package monitor

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// source is a datapath that tells what a test puts in.
type source struct {
	events chan bpf.Event
	closed chan struct{}

	mu   sync.Mutex
	told []string
	lost uint64
}

func newSource() *source { return &source{events: make(chan bpf.Event), closed: make(chan struct{})} }

func (s *source) Tell(drops, trace bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	word := map[[2]bool]string{{false, false}: "nothing", {true, false}: "drops", {true, true}: "all"}[[2]bool{drops, trace}]
	s.told = append(s.told, word)
	return nil
}

func (s *source) Read(e *bpf.Event) error {
	select {
	case *e = <-s.events:
		return nil
	case <-s.closed:
		return os.ErrClosed
	}
}

func (s *source) Lost() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost, nil
}

func (s *source) Close() error { close(s.closed); return nil }

func (s *source) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.told...)
}

func hub(t *testing.T) *Hub { return New(func(err error) { t.Error(err) }) }

func next(t *testing.T, s *Subscription) bpf.Event {
	t.Helper()
	select {
	case e := <-s.Events:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event comes")
		return bpf.Event{}
	}
}

func subscribe(t *testing.T, h *Hub, trace bool) *Subscription {
	t.Helper()
	s, err := h.Subscribe(trace)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// L-5: the datapath tells what somebody looks at, and nothing when the last has gone.
func TestTellsWhatIsWanted(t *testing.T) {
	h, s := hub(t), newSource()
	opened := 0
	if err := h.Use(func() (Source, error) { opened++; return s, nil }); err != nil {
		t.Fatal(err)
	}
	if opened != 0 {
		t.Error("the source is open though nobody looks")
	}
	drops := subscribe(t, h, false)
	all := subscribe(t, h, true)
	all.Close()
	drops.Close()
	if diff := cmp.Diff([]string{"drops", "all", "drops", "nothing"}, s.said()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	select {
	case <-s.closed:
	default:
		t.Error("the source is open after the last has gone")
	}
}

func TestEachGetsHisOwn(t *testing.T) {
	h, s := hub(t), newSource()
	if err := h.Use(func() (Source, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	drops, all := subscribe(t, h, false), subscribe(t, h, true)
	defer drops.Close()
	defer all.Close()
	now := Now()
	s.events <- bpf.Event{Time: 1, Drop: 1, Len: 1} // left over from before
	s.events <- bpf.Event{Time: now, Len: 2}
	s.events <- bpf.Event{Time: now, Drop: 1, Len: 3}
	if got := next(t, drops).Len; got != 3 {
		t.Errorf("who looks at drops gets %d, want 3", got)
	}
	if got := []uint32{next(t, all).Len, next(t, all).Len}; !cmp.Equal(got, []uint32{2, 3}) {
		t.Errorf("who looks at all gets %d, want 2 and 3", got)
	}
}

// Events that found no room are told, in the kernel's ring or here, each once.
func TestLost(t *testing.T) {
	h, s := hub(t), newSource()
	s.lost = 10
	if err := h.Use(func() (Source, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	slow, quick := subscribe(t, h, true), subscribe(t, h, false)
	defer slow.Close()
	defer quick.Close()
	now := Now()
	for range backlog + 2 {
		s.events <- bpf.Event{Time: now}
	}
	s.events <- bpf.Event{Time: now, Drop: 1}
	next(t, quick)
	s.mu.Lock()
	s.lost = 15
	s.mu.Unlock()
	for _, want := range []uint64{5 + 3, 0} {
		if got, err := slow.Lost(); err != nil || got != want {
			t.Errorf("lost %d, %v; want %d", got, err, want)
		}
	}
	if got, err := quick.Lost(); err != nil || got != 5 {
		t.Errorf("the quick one lost %d, %v; want 5", got, err)
	}
}

// Who looks goes on looking while the datapath goes and comes back.
func TestDatapathGoesAndComes(t *testing.T) {
	h, one, two := hub(t), newSource(), newSource()
	sub := subscribe(t, h, true) // before there is one
	defer sub.Close()
	if err := h.Use(func() (Source, error) { return one, nil }); err != nil {
		t.Fatal(err)
	}
	one.events <- bpf.Event{Time: Now(), Len: 1}
	next(t, sub)
	if err := h.Use(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"all", "nothing"}, one.said()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if err := h.Use(func() (Source, error) { return two, nil }); err != nil {
		t.Fatal(err)
	}
	two.events <- bpf.Event{Time: Now(), Len: 2}
	if got := next(t, sub).Len; got != 2 {
		t.Errorf("the new datapath's event is %d, want 2", got)
	}
}

// One who cannot be served is not counted among those who look.
func TestSourceThatDoesNotOpen(t *testing.T) {
	h := hub(t)
	broken := errors.New("broken")
	if err := h.Use(func() (Source, error) { return nil, broken }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Subscribe(true); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if len(h.subs) != 0 {
		t.Error("he is counted")
	}
}
