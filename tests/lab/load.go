package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Load is many connections at once, each of which asks its server one numbered token after the other and looks at every answer. It shows
// what becomes of connections while something happens to the host below them:
//
//	load := lab.StartLoad(t, 0,
//		lab.Line{Name: "in", From: h.Remote, Network: "tcp", To: lab.At(lab.HostIP, 8080), Server: "web", Count: 250},
//		lab.Line{Name: "out", From: c.NS, Network: "udp", To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: 50})
//	load.Round(t)             // every connection has asked and been answered since this call began
//	... attach, kill, restart ...
//	r := load.Round(t)        // and again; what happened since the last round
//	if err := r.Err(); err != nil {
//		t.Error(err)
//	}
//
// The connections end with the test, or with Stop. A datagram that is lost is sent again after a second, as a client of such a protocol
// does, and counted; a connection is broken when its socket says so, or when no answer has come for half a minute.
type Load struct {
	talks []*talk
	stop  chan struct{}
	done  sync.WaitGroup
	end   sync.Once
}

// Line is a number of connections of one kind.
type Line struct {
	Name    string
	From    *Netns // where the clients are
	Network string // "tcp" or "udp"
	To      string // "ip:port"
	Server  string // the name that must be in every answer
	Count   int
	Ports   int // where it is not 0, the clients are bound to Count ports from this one on
}

// Round is what became of a load since the round before.
type Round struct {
	Exchanges int
	Longest   time.Duration // of all exchanges, from the question to its answer
	Slowest   string        // whose that was
	Lost      int           // datagrams without an answer within a second
	Broken    []string      // connections that have ended, and how
	Crossed   []string      // answers by the wrong server, to another question, or to a client that is seen from elsewhere than before
}

// Err sums up what must not be, or is nil.
func (r Round) Err() error {
	var errs []error
	for _, bad := range []struct {
		what string
		list []string
	}{{"broken", r.Broken}, {"crossed", r.Crossed}} {
		if n := len(bad.list); n > 0 {
			errs = append(errs, fmt.Errorf("%d %s: %s", n, bad.what, strings.Join(bad.list[:min(n, 5)], "; ")))
		}
	}
	return errors.Join(errs...)
}

func (r Round) String() string {
	return fmt.Sprintf("%d exchanges, longest %v (%s), %d datagrams lost, %d broken, %d crossed",
		r.Exchanges, r.Longest.Round(time.Millisecond), r.Slowest, r.Lost, len(r.Broken), len(r.Crossed))
}

const (
	loadRetry  = time.Second      // between two datagrams with the same question
	loadBroken = 30 * time.Second // without an answer
	loadPause  = 200 * time.Millisecond
	loadTurns  = 2 // exchanges of every connection that a round waits for: the first may have begun before it
)

// talk is one connection of a load.
type talk struct {
	name   string
	line   Line
	client *Client

	mu    sync.Mutex
	seen  string // the client's address, as the server sees it
	turns int
	over  bool // it is broken, and has been reported
	Round
}

// StartLoad opens the connections and has them talk, each with that pause between two exchanges (0: a fifth of a second).
func StartLoad(t testing.TB, pause time.Duration, lines ...Line) *Load {
	t.Helper()
	if pause == 0 {
		pause = loadPause
	}
	l := &Load{stop: make(chan struct{})}
	t.Cleanup(l.Stop)
	for _, line := range lines {
		for i := range line.Count {
			opts := []Option{Within(10 * time.Second)}
			if line.Ports != 0 {
				opts = append(opts, From(fmt.Sprintf(":%d", line.Ports+i)))
			}
			c, err := line.From.TryDial(line.Network, line.To, opts...)
			if err != nil {
				t.Fatalf("load: %s %d: %v", line.Name, i, err)
			}
			l.talks = append(l.talks, &talk{name: fmt.Sprintf("%s/%s %d (%s)", line.Name, line.Network, i, c.Conn().LocalAddr()), line: line, client: c})
		}
	}
	for i, k := range l.talks {
		// They begin one after the other over a pause's time.
		first := pause * time.Duration(i) / time.Duration(len(l.talks))
		l.done.Go(func() { k.run(l.stop, first, pause) })
	}
	return l
}

// Stop ends all connections and waits for that.
func (l *Load) Stop() {
	l.end.Do(func() {
		close(l.stop)
		for _, k := range l.talks {
			k.client.Close()
		}
		l.done.Wait()
	})
}

// Round waits until every connection has asked and been answered from now on, or is broken, and tells what happened since the last call.
func (l *Load) Round(t testing.TB) Round {
	t.Helper()
	from := make([]int, len(l.talks))
	for i, k := range l.talks {
		k.mu.Lock()
		from[i] = k.turns
		k.mu.Unlock()
	}
	Eventually(t, 3*loadBroken, func() error {
		for i, k := range l.talks {
			k.mu.Lock()
			waits := !k.over && k.turns < from[i]+loadTurns
			k.mu.Unlock()
			if waits {
				return fmt.Errorf("%s has no answer", k.name)
			}
		}
		return nil
	})
	var r Round
	for _, k := range l.talks {
		k.mu.Lock()
		r.Exchanges += k.Exchanges
		r.Lost += k.Lost
		r.Broken = append(r.Broken, k.Broken...)
		r.Crossed = append(r.Crossed, k.Crossed...)
		if k.Longest > r.Longest {
			r.Longest, r.Slowest = k.Longest, k.name
		}
		k.Round = Round{}
		k.mu.Unlock()
	}
	return r
}

// run asks until the load is stopped or the connection is broken.
func (k *talk) run(stop <-chan struct{}, first, pause time.Duration) {
	wait := time.NewTimer(first)
	defer wait.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-wait.C:
		}
		err := k.exchange(n)
		select {
		case <-stop: // what the socket says then is our own doing
			return
		default:
		}
		if err != nil {
			k.mu.Lock()
			k.over = true
			k.Broken = append(k.Broken, fmt.Sprintf("%s: question %d: %v", k.name, n, err))
			k.mu.Unlock()
			return
		}
		wait.Reset(pause)
	}
}

// exchange asks one question until it is answered.
func (k *talk) exchange(n int) error {
	token := fmt.Sprintf("%s-%d", k.name, n)
	patience := loadBroken
	if k.line.Network == "udp" {
		patience = loadRetry
	}
	lost := 0
	for start := time.Now(); ; {
		answer, err := k.client.Client.Ask(token, patience)
		took := time.Since(start)
		if errors.Is(err, os.ErrDeadlineExceeded) && took < loadBroken {
			lost++
			continue
		}
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.turns++
		k.Exchanges++
		k.Lost += lost
		k.Longest = max(k.Longest, took)
		if answer.Name != k.line.Server {
			k.Crossed = append(k.Crossed, fmt.Sprintf("%s: %s answered, not %s", k.name, answer.Name, k.line.Server))
		}
		if k.seen != "" && answer.Client != k.seen {
			k.Crossed = append(k.Crossed, fmt.Sprintf("%s: seen as %s, was %s", k.name, answer.Client, k.seen))
		}
		k.seen = answer.Client
		return nil
	}
}
