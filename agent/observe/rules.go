package observe

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// rulesAge is how long a look at the netfilter rules serves before they are looked at again, aside: with thousands of published ports that
// takes longer than all the rest. Docker writes a network's rules before it tells of the network, and then they are waited for.
const rulesAge = 10 * time.Second

// rulesSettle is how long a rule has to be there before it counts as somebody else's, once there has been a first look. Docker writes a
// network's rules one by one, and the first of them alone do not tell whose they are.
const rulesSettle = 2 * time.Second

// Netfilter is what a look at the rules has shown.
type Netfilter struct {
	Docker  map[string]bool // the bridges that rules of Docker's name
	Foreign []string        // rules that are not Docker's own and could decide over forwarded traffic
	IPsec   bool            // there are IPsec policies
}

// Rules looks at netfilter's rules.
type Rules func(context.Context) (Netfilter, error)

// rules keeps what was seen of the netfilter rules.
type rules struct {
	read   Rules
	age    time.Duration
	settle time.Duration
	stale  chan struct{} // asks follow for another look

	mu      sync.Mutex
	seen    Netfilter
	at      time.Time            // zero where nothing serves
	forgets int                  // how often it was told to forget
	wrong   error                // why the last look saw nothing
	sure    bool                 // the next look counts as it is
	fresh   map[string]time.Time // foreign rules that do not count yet, and since when they are known
}

func newRules(read Rules) *rules {
	if read == nil {
		read = func(context.Context) (Netfilter, error) { return Netfilter{}, nil }
	}
	return &rules{read: read, age: rulesAge, settle: rulesSettle, sure: true, stale: make(chan struct{}, 1)}
}

// look gives what was seen last, and looks itself only where that does not serve. An error comes with what was seen before.
func (r *rules) look(ctx context.Context) (Netfilter, error) {
	r.mu.Lock()
	age := time.Since(r.at)
	forgotten := r.at.IsZero()
	r.mu.Unlock()
	switch {
	case forgotten:
		r.refresh(ctx)
	case age >= r.age:
		r.suspect()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen, r.wrong
}

// suspect has follow look again.
func (r *rules) suspect() {
	select {
	case r.stale <- struct{}{}:
	default:
	}
}

// forget makes the next look wait for the rules as they are by then.
func (r *rules) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = time.Time{}
	r.forgets++
}

// forgetAll is forget for somebody who has to know what there is at this moment, half done or not.
func (r *rules) forgetAll() {
	r.forget()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sure = true
}

// settled gives those of the foreign rules that count: what was there when it was sure, and what has been there for long enough since. The
// others are looked at again when they would count. The lock is held.
func (r *rules) settled(foreign []string, now time.Time) (count []string) {
	fresh := make(map[string]time.Time)
	for _, rule := range foreign {
		since, young := r.fresh[rule]
		if !young {
			since = now
		}
		if r.sure || now.Sub(since) >= r.settle || slices.Contains(r.seen.Foreign, rule) {
			count = append(count, rule)
			continue
		}
		fresh[rule] = since
		if !young {
			time.AfterFunc(r.settle, r.suspect)
		}
	}
	r.sure, r.fresh = false, fresh
	return count
}

// follow looks again when asked to, and calls wake when there is something new to see, until the context ends.
func (r *rules) follow(ctx context.Context, wake func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.stale:
			began := time.Now()
			if r.refresh(ctx) {
				wake()
			}
			wait(ctx, time.Since(began)) // looking is never more than half of what is done
		}
	}
}

// refresh looks at the rules. What is forgotten meanwhile stays forgotten. Out: whether it has seen something new.
func (r *rules) refresh(ctx context.Context) bool {
	r.mu.Lock()
	forgets := r.forgets
	r.mu.Unlock()
	began := time.Now()
	seen, err := r.read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		fresh := r.wrong == nil
		r.at, r.wrong = time.Time{}, fmt.Errorf("read netfilter rules: %w", err)
		return fresh
	}
	seen.Foreign = r.settled(seen.Foreign, time.Now())
	fresh := r.wrong != nil || !maps.Equal(r.seen.Docker, seen.Docker) || !slices.Equal(r.seen.Foreign, seen.Foreign) || r.seen.IPsec != seen.IPsec
	r.seen, r.wrong = seen, nil
	if r.forgets == forgets {
		r.at = began
	}
	return fresh
}
