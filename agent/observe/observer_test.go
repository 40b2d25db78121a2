package observe

import (
	"context"
	"strings"
	"testing"
	"time"
)

func newTestObserver(t *testing.T, d *dockerd, rules Rules) *Observer {
	t.Helper()
	o, err := New(Config{DockerHost: "unix://" + d.socket, Rules: rules, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestObserve(t *testing.T) {
	inNamespace(t)
	run(t, "ip link add br0 type bridge")
	run(t, "ip link add br1 type bridge")
	d := newDockerd(t)
	d.containers = "[" + web20 + "]"
	d.networks = `[{"Name": "bridge", "Id": "0123456789abcdef", "Driver": "bridge"}]`
	d.start()
	o := newTestObserver(t, d, func(context.Context) (Netfilter, error) {
		return Netfilter{Docker: map[string]bool{"br1": true}}, nil
	})
	got, err := o.Observe(t.Context())
	if err != nil || len(o.Problems()) != 0 {
		t.Fatal(err, o.Problems())
	}
	if len(got.Bridges) != 2 || len(got.Containers) != 1 || len(got.Networks) != 1 {
		t.Fatalf("saw %+v", got)
	}
	for _, b := range got.Bridges {
		if b.DockerRules != (b.Name == "br1") {
			t.Errorf("bridge %s: Docker's rules: %v", b.Name, b.DockerRules)
		}
	}

	d.set(func() { d.oldest = "1.44" })
	got, err = o.Observe(t.Context())
	if err != nil || len(got.Containers) != 1 || len(got.Networks) != 1 {
		t.Errorf("an engine that refuses: %+v, %v; want what it said before", got, err)
	}
	if p := o.Problems(); len(p) != 1 || !strings.Contains(p[0], "client version v1.41 is too old") {
		t.Errorf("problems: %q", p)
	}

	o.Close()
	if got, err := o.Observe(t.Context()); err == nil {
		t.Errorf("a closed observer saw %+v", got)
	}
}

func TestChanges(t *testing.T) {
	d := newDockerd(t)
	o := newTestObserver(t, d, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		o.Close()
	}()
	changed := func(what string) {
		t.Helper()
		select {
		case <-o.Changes():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no change", what)
		}
	}
	changed("what was before the events came")
	if o.Docker() {
		t.Error("Docker's events come from nowhere")
	}
	d.start()
	changed("Docker comes")
	eventually(t, "Docker's events are followed", func() bool { return o.Docker() && d.followed() == 1 })
	d.tell("container", "start")
	changed("an event")
}

// What is told is that there is a reason to look, and any number of reasons makes one value.
func TestWakesCollapse(t *testing.T) {
	o := newTestObserver(t, newDockerd(t), nil)
	defer o.Close()
	for range 100 {
		o.wake()
	}
	<-o.Changes()
	select {
	case <-o.Changes():
		t.Error("100 reasons made two values")
	default:
	}
}
