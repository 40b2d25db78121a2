package observe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// fakeRules counts how often it is read. Each time another bridge has Docker's rules.
type fakeRules struct {
	reads int
	err   error
	hook  func() // called in the midst of a read
}

func (f *fakeRules) read(context.Context) (Netfilter, error) {
	f.reads++
	mine := string(rune('a' + f.reads - 1))
	if f.hook != nil {
		f.hook()
	}
	return Netfilter{Docker: map[string]bool{mine: true}}, f.err
}

// sees fails the test unless a look gives what the nth read saw.
func sees(t *testing.T, what string, r *rules, bridge string) {
	t.Helper()
	seen, err := r.look(t.Context())
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if !seen.Docker[bridge] {
		t.Errorf("%s: not what was to be seen of bridge %s", what, bridge)
	}
}

func TestRules(t *testing.T) {
	var f fakeRules
	r := newRules(f.read)
	sees(t, "first", r, "a")
	sees(t, "again", r, "a")
	r.forget()
	sees(t, "forgotten", r, "b")

	// Old ones serve, and are looked at aside.
	r.age = 0
	sees(t, "old", r, "b")
	sees(t, "older", r, "b")
	r.age = rulesAge
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.follow(ctx, func() { woken <- struct{}{} })
	}()
	select {
	case <-woken:
	case <-time.After(10 * time.Second):
		t.Fatal("no wake-up after a look aside")
	}
	cancel()
	<-done
	sees(t, "looked at aside", r, "c")
	if f.reads != 3 {
		t.Errorf("%d reads, want 3", f.reads)
	}
}

// A rule of somebody else's counts at once where the first look shows it, or where somebody has to know; else when it has stayed.
func TestForeignRulesSettle(t *testing.T) {
	var there []string
	r := newRules(func(context.Context) (Netfilter, error) { return Netfilter{Foreign: there}, nil })
	r.settle = 20 * time.Millisecond
	foreign := func(what string, want ...string) {
		t.Helper()
		r.forget()
		seen, err := r.look(t.Context())
		if err != nil || !slices.Equal(seen.Foreign, want) {
			t.Errorf("%s: %q, %v; want %q", what, seen.Foreign, err, want)
		}
	}
	there = []string{"old"}
	foreign("the first look", "old")
	there = []string{"old", "half"}
	foreign("a rule that has just come", "old")
	there = []string{"old"}
	foreign("it was Docker's", "old")
	time.Sleep(2 * r.settle)
	there = []string{"old", "half"}
	foreign("it begins anew", "old")
	select {
	case <-r.stale: // the look that is due after the rule was seen first
	case <-time.After(10 * time.Second):
		t.Fatal("no other look is asked for")
	}
	time.Sleep(2 * r.settle)
	foreign("it has stayed", "old", "half")
	there = []string{"half"}
	foreign("one that has gone counts no more", "half")
	there = []string{"half", "new"}
	r.forgetAll()
	foreign("somebody has to know", "half", "new")
}

// A network that comes while the rules are read may not be among what is read.
func TestRulesForgottenMeanwhile(t *testing.T) {
	var f fakeRules
	r := newRules(f.read)
	f.hook = r.forget
	sees(t, "first", r, "a")
	f.hook = nil
	sees(t, "second", r, "b")
	sees(t, "third", r, "b")
}

func TestRulesThatCannotBeRead(t *testing.T) {
	var f fakeRules
	r := newRules(f.read)
	sees(t, "first", r, "a")
	r.forget()
	f.err = errors.New("no iptables")
	if seen, err := r.look(t.Context()); err == nil || !seen.Docker["a"] {
		t.Errorf("error %v, Docker's rules for a: %v; want an error and what was seen before", err, seen.Docker["a"])
	}
	f.err = nil
	sees(t, "readable again", r, "c")
}
