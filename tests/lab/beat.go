package lab

import (
	"errors"
	"os"
	"testing"
	"time"
)

// Beat pings an address again and again, so that a moment without a way shows as a packet that is lost.
type Beat struct {
	pinger *Pinger
	stop   chan struct{}
	sent   chan beatSent
	heard  map[int]bool
	last   time.Time     // an answer came
	silent time.Duration // the longest time between two answers
	done   chan struct{}
}

type beatSent struct {
	n   int
	err error
}

// Beat starts one. It goes on until Lost, or until the test ends.
func (n *Netns) Beat(t testing.TB, id int, to string, every time.Duration) *Beat {
	t.Helper()
	b := &Beat{pinger: n.Ping(t, id), stop: make(chan struct{}), sent: make(chan beatSent, 1), heard: map[int]bool{}, done: make(chan struct{})}
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			seq, err := b.pinger.TrySend(to, nil)
			select {
			case <-b.stop:
				b.sent <- beatSent{seq, err}
				return
			case <-tick.C:
				if err != nil {
					b.sent <- beatSent{seq, err}
					return
				}
			}
		}
	}()
	go func() {
		defer close(b.done)
		for {
			h, err := b.pinger.Hear(time.Minute)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return
			}
			if h.Echo != nil && h.Echo.ID == id && h.From.String() == to {
				b.heard[h.Echo.Seq] = true
				now := time.Now()
				if !b.last.IsZero() {
					b.silent = max(b.silent, now.Sub(b.last))
				}
				b.last = now
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case <-b.stop:
		default:
			close(b.stop)
		}
		b.pinger.conn.Close()
		<-b.done
	})
	return b
}

// Lost ends the beat, gives the last answers the time that they may take, and tells how many packets were sent and how many of them were not
// answered.
func (b *Beat) Lost(t testing.TB) (sent, lost int) {
	t.Helper()
	close(b.stop)
	last := <-b.sent
	if last.err != nil {
		t.Errorf("packet %d was not sent: %v", last.n, last.err)
	}
	time.AfterFunc(Patience, func() { b.pinger.conn.Close() })
	<-b.done
	return last.n, last.n - len(b.heard)
}

// Outage is Lost for a way that may go away for a while: it tells for how long no answer came at most.
func (b *Beat) Outage(t testing.TB) time.Duration {
	t.Helper()
	b.Lost(t)
	return b.silent
}
