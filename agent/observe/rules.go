package observe

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// rulesAge is how long a look at the netfilter rules serves before they are looked at again, aside: with thousands of published ports that
// takes longer than all the rest. Docker writes a network's rules before it tells of the network, and then they are waited for.
const rulesAge = 10 * time.Second

// Rules tells which bridges netfilter rules of Docker name.
type Rules func(context.Context) (func(bridge string) bool, error)

// rules keeps what was seen of the netfilter rules.
type rules struct {
	read  Rules
	age   time.Duration
	stale chan struct{} // asks follow for another look

	mu       sync.Mutex
	isDocker func(bridge string) bool
	at       time.Time // zero where nothing serves
	forgets  int       // how often it was told to forget
	wrong    error     // why the last look saw nothing
}

func newRules(read Rules) *rules {
	none := func(string) bool { return false }
	if read == nil {
		read = func(context.Context) (func(string) bool, error) { return none, nil }
	}
	return &rules{read: read, age: rulesAge, stale: make(chan struct{}, 1), isDocker: none}
}

// look gives what was seen last, and looks itself only where that does not serve. An error comes with what was seen before.
func (r *rules) look(ctx context.Context) (func(bridge string) bool, error) {
	r.mu.Lock()
	age := time.Since(r.at)
	forgotten := r.at.IsZero()
	r.mu.Unlock()
	switch {
	case forgotten:
		r.refresh(ctx)
	case age >= r.age:
		select {
		case r.stale <- struct{}{}:
		default:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isDocker, r.wrong
}

// forget makes the next look wait for the rules as they are by then.
func (r *rules) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = time.Time{}
	r.forgets++
}

// follow looks again when asked to, and calls wake when it has, until the context ends.
func (r *rules) follow(ctx context.Context, wake func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.stale:
			r.refresh(ctx)
			wake()
		}
	}
}

// refresh looks at the rules. What is forgotten meanwhile stays forgotten.
func (r *rules) refresh(ctx context.Context) {
	r.mu.Lock()
	forgets := r.forgets
	r.mu.Unlock()
	began := time.Now()
	isDocker, err := r.read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.at, r.wrong = time.Time{}, fmt.Errorf("read netfilter rules: %w", err)
		return
	}
	r.isDocker, r.wrong = isDocker, nil
	if r.forgets == forgets {
		r.at = began
	}
}
