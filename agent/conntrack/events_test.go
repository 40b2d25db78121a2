package conntrack

import (
	"errors"
	"io/fs"
	"net"
	"testing"
	"time"
)

// What becomes of a connection is told: that it is established, that it changes, that it is gone; and nothing of one that has just begun.
func TestEvents(t *testing.T) {
	table := open(t)
	events, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	next := func() Event {
		t.Helper()
		got, err := events.Receive()
		if err != nil || len(got) != 1 {
			t.Fatalf("events: %v, %v", got, err)
		}
		return got[0]
	}
	fresh := Entry{
		Orig: tuple(17, "172.17.0.3:5000", "203.0.113.2:53"), Reply: tuple(17, "203.0.113.2:53", "192.0.2.1:5000"),
		Status: Confirmed | SeenReply, Timeout: time.Minute,
	}
	e := Entry{
		Orig: tuple(6, "172.17.0.2:5000", "203.0.113.2:80"), Reply: tuple(6, "203.0.113.2:80", "192.0.2.1:6000"),
		Status: Confirmed | SeenReply | Assured, Timeout: time.Hour, TCP: TCPEstablished,
	}
	for _, e := range []Entry{fresh, e} {
		if err := table.Create(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Update(fresh); err != nil {
		t.Fatal(err)
	}
	if err := table.Loosen(e.Orig); err != nil {
		t.Fatal(err)
	}
	// Nothing is told of the one that is not assured.
	if got := next(); got.Gone || got.Entry.Orig != e.Orig || got.Entry.Reply != e.Reply || got.Entry.TCP != TCPEstablished {
		t.Errorf("told %+v, want that %v is established", got, e.Orig)
	}
	list, err := table.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range list {
		if got.Orig == e.Orig && (got.TCP != TCPEstablished || got.Timeout < e.Timeout-time.Minute || got.Timeout > e.Timeout) {
			t.Errorf("loosened: state %d, timeout %v; only its flags should have changed", got.TCP, got.Timeout)
		}
	}
	if err := table.Delete(e.Orig); err != nil {
		t.Fatal(err)
	}
	if got := next(); !got.Gone || got.Entry.Orig != e.Orig {
		t.Errorf("told %+v, want that %v is gone", got, e.Orig)
	}
	if err := table.Loosen(e.Orig); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loosen what is gone: %v, want that it does not exist", err)
	}
	waits := make(chan error)
	go func() {
		_, err := events.Receive()
		waits <- err
	}()
	events.Close()
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive after the end: %v", err)
	}
}
