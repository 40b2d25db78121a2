package agent

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/lease"
	"github.com/ebpfnet/ebpfnet/policy"
)

// overlay I3: the programs are loaded once, before or when they are asked for, and taken away where nobody asked for them.
func TestPrepare(t *testing.T) {
	etcd := OverlayOptions{Etcd: lease.Etcd{Endpoints: []string{"http://192.0.2.5:2379"}}}
	for _, c := range []struct {
		name    string
		overlay OverlayOptions
		bridges []policy.BridgeIntent
		failing bool // the first time
		asked   bool
		loads   int
		removed bool
	}{
		{name: "a host by itself", asked: true, loads: 1},
		{name: "one of several", overlay: etcd, asked: true, loads: 1},
		{name: "it failed then", overlay: etcd, asked: true, failing: true, loads: 2},
		{name: "attached before", overlay: etcd, bridges: []policy.BridgeIntent{{Name: "br0"}}, asked: true, loads: 1},
		{name: "nobody asked", overlay: etcd, loads: 1, removed: true},
		{name: "nobody asked, and it failed", overlay: etcd, failing: true, loads: 1},
		{name: "nobody asked a host by itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			loads, removed := 0, false
			a := &Agent{
				o: Options{Overlay: c.overlay}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), state: State{Intent: policy.Intent{Bridges: c.bridges}},
				host: Host{
					LoadDatapath: func() (Datapath, error) {
						if loads++; c.failing && loads == 1 {
							return nil, errors.New("no memory")
						}
						return &fakeDatapath{}, nil
					},
					RemoveDatapath: func() error { removed = true; return nil },
				},
			}
			a.prepare()
			if c.asked {
				if dp, err := a.loadDatapath(); err != nil || dp == nil {
					t.Errorf("%v, %v", dp, err)
				}
			}
			a.leaveUnused()
			if loads != c.loads || removed != c.removed {
				t.Errorf("loaded %d times, removed: %v; want %d, %v", loads, removed, c.loads, c.removed)
			}
		})
	}
}

// overlay E6: an agent that is told to end while it loads its programs does not wait for them, and takes what is pinned away.
func TestPrepareInterrupted(t *testing.T) {
	release, removed := make(chan struct{}), false
	a := &Agent{
		o:   Options{Overlay: OverlayOptions{Etcd: lease.Etcd{Endpoints: []string{"http://192.0.2.5:2379"}}}},
		log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		host: Host{
			LoadDatapath: func() (Datapath, error) {
				<-release
				return nil, errors.New("the test is over")
			},
			RemoveDatapath: func() error { removed = true; return nil },
		},
	}
	a.prepare()
	a.leaveUnused()
	if !removed {
		t.Error("what is pinned stays")
	}
	close(release)
}
