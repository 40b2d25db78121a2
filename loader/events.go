package loader

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Events is the datapath's ring of events, open for reading. Only one reader at a time gets all of them.
type Events struct {
	ring   *ringbuf.Reader
	bits   *ebpf.Variable
	lost   *ebpf.Variable
	record ringbuf.Record
}

// OpenEvents opens the ring. What was left in it by an earlier reader comes first (see bpf.Event.Time). Nothing is written to it before Tell.
func (d *Datapath) OpenEvents() (*Events, error) {
	return openEvents(d.TC.Events, d.TC.Monitor, d.TC.EventsLost)
}

func openEvents(m *ebpf.Map, bits, lost *ebpf.Variable) (*Events, error) {
	ring, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	return &Events{ring: ring, bits: bits, lost: lost}, nil
}

// next gives the event that is there; nil where there is none.
func (e *Events) next() (*bpf.Event, error) {
	if err := e.ring.Flush(); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var found *bpf.Event
	for {
		var ev bpf.Event
		err := e.Read(&ev)
		if errors.Is(err, ringbuf.ErrFlushed) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		found = &ev
	}
}

// Tell says which events the programs write: drops, and all else that they decide (trace). They begin or end with that at once.
func (e *Events) Tell(drops, trace bool) error {
	var bits bpf.MonitorBit
	if drops {
		bits |= bpf.DatapathMonitorBitMONITOR_DROPS
	}
	if trace {
		bits |= bpf.DatapathMonitorBitMONITOR_TRACE
	}
	if err := e.bits.Set(bits); err != nil {
		return fmt.Errorf("ask for events: %w", err)
	}
	return nil
}

// Read waits for the next event. The error is os.ErrClosed after Close.
func (e *Events) Read(ev *bpf.Event) error {
	if err := e.ring.ReadInto(&e.record); err != nil {
		if errors.Is(err, ringbuf.ErrClosed) {
			return os.ErrClosed
		}
		return fmt.Errorf("read events: %w", err)
	}
	if len(e.record.RawSample) < int(unsafe.Sizeof(*ev)) {
		return fmt.Errorf("read events: one of %d bytes, want %d", len(e.record.RawSample), unsafe.Sizeof(*ev))
	}
	*ev = *(*bpf.Event)(unsafe.Pointer(unsafe.SliceData(e.record.RawSample)))
	return nil
}

// Lost tells how many events found the ring full since the programs were loaded.
func (e *Events) Lost() (n uint64, err error) {
	if err := e.lost.Get(&n); err != nil {
		return 0, fmt.Errorf("read lost events: %w", err)
	}
	return n, nil
}

// Close ends a Read that waits. The programs go on as Tell said last.
func (e *Events) Close() error { return e.ring.Close() }
