package observe

import (
	"context"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

// wakes counts how often an engine's follower was woken.
type wakes struct{ all, rules chan struct{} }

// follow lets the engine be followed until the test ends.
func follow(t *testing.T, e *engine) wakes {
	t.Helper()
	w := wakes{all: make(chan struct{}, 1000), rules: make(chan struct{}, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.follow(ctx, func(rules bool) {
			if rules {
				w.rules <- struct{}{}
			}
			w.all <- struct{}{}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// want fails the test where there is no wake-up soon.
func (w wakes) want(t *testing.T, what string) {
	t.Helper()
	select {
	case <-w.all:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no wake-up", what)
	}
}

// quiet lets all wake-ups pass that what was told so far still causes.
func (w wakes) quiet() {
	for {
		select {
		case <-w.all:
		case <-w.rules:
		case <-time.After(2 * settle):
			return
		}
	}
}

func TestChangesRules(t *testing.T) {
	for _, tt := range []struct {
		kind   events.Type
		action events.Action
		want   bool
	}{
		{"container", "create", false}, {"container", "start", false}, {"container", "destroy", false},
		{"network", "connect", false}, {"network", "disconnect", false},
		{"network", "create", true}, {"network", "destroy", true}, {"network", "remove", true}, {"daemon", "reload", true},
	} {
		if got := changesRules(events.Message{Type: tt.kind, Action: tt.action}); got != tt.want {
			t.Errorf("%s %s: %v", tt.kind, tt.action, got)
		}
	}
}

func TestFollow(t *testing.T) {
	d := newDockerd(t)
	e := newTestEngine(t, d)
	w := follow(t, e)
	d.start()
	w.want(t, "the engine comes")
	if len(w.rules) != 1 {
		t.Error("the engine comes, and its rules are not looked at")
	}
	if !e.following() {
		t.Error("not following")
	}
	eventually(t, "a stream", func() bool { return d.followed() == 1 })
	d.set(func() {
		if d.since == "" {
			t.Error("events are asked for from no moment on: those before the engine listens to itself are lost")
		}
	})
	w.quiet()

	d.tell("container", "start")
	w.want(t, "an event")
	w.want(t, "a while after it") // the lists may not have said yet what it does
	if len(w.rules) != 0 {
		t.Error("the rules are looked at for a container's start")
	}
	d.tell("network", "create")
	w.want(t, "a network's event")
	if len(w.rules) != 1 {
		t.Error("a network comes, and its rules are not looked at")
	}

	d.stop()
	w.want(t, "the engine goes")
	eventually(t, "the engine is not followed", func() bool { return !e.following() })
}

// An engine that comes back is another one: it may have become one that refuses the old one's version.
func TestFollowUpgradedEngine(t *testing.T) {
	d := newDockerd(t)
	d.start()
	e := newTestEngine(t, d)
	w := follow(t, e)
	w.want(t, "the engine comes")
	if _, err := e.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.stop()
	w.want(t, "the engine goes")
	d.set(func() { d.version, d.oldest = "1.52", "1.44" })
	d.start()
	eventually(t, "the engine is followed again", func() bool { return d.followed() == 1 && e.following() })
	d.requests()
	if _, err := e.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked := d.requests(); len(asked) < 6 || asked[:6] != "/v1.52" {
		t.Errorf("asked for %s, want version 1.52", asked)
	}
}
