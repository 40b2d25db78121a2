package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

func (l *lab) attach(bridges ...string) {
	l.t.Helper()
	if _, err := l.client.Attach(l.t.Context(), api.AttachRequest{Bridges: bridges, Mode: modeAuto}); err != nil {
		l.t.Fatal(err)
	}
}

// K-4, G-9: what attaching does and in which order, what a container's coming and going do, and that detaching undoes it.
func TestAttachAndDetach(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	want := []string{"attach container 5", "attach bridge 2", "attach uplink 1", "clear 0", "sync", "attach sockets"}
	if diff := cmp.Diff(want, l.takeOps()); diff != "" {
		t.Errorf("attach (-want +got):\n%s", diff)
	}
	if got := l.sysctl("docker0"); got != "1" {
		t.Errorf("route_localnet is %s", got)
	}
	if diff := cmp.Diff([]int{5}, l.fdb.ports()); diff != "" {
		t.Errorf("forwarding entries (-want +got):\n%s", diff)
	}

	l.change(func(o *policy.Observed) {
		o.Endpoints = append(o.Endpoints, endpoint("vethdb", 6, 2, "172.17.0.3/16"))
	})
	l.await("the new container has programs", func() bool { return len(l.programs[6]) == 2 })
	if diff := cmp.Diff([]string{"attach container 6", "clear 1", "sync"}, l.takeOps()); diff != "" {
		t.Errorf("new container (-want +got):\n%s", diff)
	}

	// E-16: what the old endpoint's flows would still do ends with it.
	l.change(func(o *policy.Observed) { o.Endpoints = o.Endpoints[:1] })
	l.await("the container's flows are gone", func() bool { return slices.Contains(l.ops, "purge 2") })
	if diff := cmp.Diff([]string{"detach 6", "sync", "purge 2"}, l.takeOps()); diff != "" {
		t.Errorf("container gone (-want +got):\n%s", diff)
	}

	if err := l.client.Detach(t.Context(), api.DetachRequest{Bridges: []string{"docker0"}}); err != nil {
		t.Fatal(err)
	}
	got := l.takeOps()
	slices.Sort(got[:3]) // devices in any order, all before the maps
	if diff := cmp.Diff([]string{"detach 1", "detach 2", "detach 5", "detach sockets", "sync", "purge 1"}, got); diff != "" {
		t.Errorf("detach (-want +got):\n%s", diff)
	}
	if got := l.sysctl("docker0"); got != "0" {
		t.Errorf("after detach route_localnet is %s", got)
	}
	if len(l.fdb.entries) != 0 {
		t.Errorf("after detach there are forwarding entries: %v", l.fdb.entries)
	}

	l.attach("docker0")
	if err := l.client.Detach(t.Context(), api.DetachRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.paths.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after detach --all the state file is there: %v", err)
	}
	if l.sysctl("docker0") != "0" || len(l.fdb.entries) != 0 || l.pinned {
		t.Errorf("after detach --all: route_localnet %s, entries %v, pinned %v", l.sysctl("docker0"), l.fdb.entries, l.pinned)
	}
	if s, err := l.client.Status(t.Context()); err != nil || len(s.Bridges) != 0 {
		t.Errorf("an agent in the foreground stays: %v, %v", s.Bridges, err)
	}
}

// Bad input changes nothing, and says in one line what and what to do.
func TestAttachRefuses(t *testing.T) {
	tests := []struct {
		name    string
		request api.AttachRequest
		prepare func(*lab)
		want    string
		usage   bool
	}{
		{name: "unknown bridge", request: api.AttachRequest{Bridges: []string{"br9"}, Mode: modeAuto},
			want: "no bridge br9: the bridges here are br1, docker0, and --wait waits for one that is to come"},
		{name: "not a bridge", request: api.AttachRequest{Bridges: []string{"veth0"}, Mode: modeAuto},
			want: "veth0 is not a bridge: the bridges here are br1, docker0"},
		{name: "no address", request: api.AttachRequest{Bridges: []string{"docker0", "br1"}, Mode: modeAuto},
			want: "bridge br1 has no IPv4 address: give it one"},
		{name: "unknown uplink", request: api.AttachRequest{Bridges: []string{"docker0"}, Uplinks: []string{"eth9"}, Mode: modeAuto},
			want: "no device eth9: the devices here are eth0, wg0"},
		{name: "tunnel as uplink", request: api.AttachRequest{Bridges: []string{"docker0"}, Uplinks: []string{"wg0"}, Mode: modeAuto},
			want: "uplink wg0 has no link-layer header"},
		{name: "others' rules", request: api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeAuto},
			prepare: func(l *lab) { l.foreign = []string{"DOCKER-USER: -s 10.0.0.0/8 -j DROP", "b", "c", "d"} },
			want:    "rules that are not Docker's own (4: DOCKER-USER: -s 10.0.0.0/8 -j DROP; b; c; ...): remove them, or attach with `--mode native`"},
		{name: "rules that cannot be read", request: api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeAuto},
			prepare: func(l *lab) { l.observed.RulesUnknown = "read netfilter rules: no iptables" },
			want:    "no iptables: `--mode native` attaches without looking"},
		{name: "no Docker", request: api.AttachRequest{All: true, Mode: modeAuto}, prepare: func(l *lab) { l.docker, l.observed.Networks = false, nil },
			want: "Docker does not answer, and --all means its networks"},
		{name: "mode", request: api.AttachRequest{Bridges: []string{"docker0"}, Mode: "x"}, want: "it is auto, native or offload", usage: true},
		{name: "nothing", request: api.AttachRequest{Mode: modeAuto}, want: "either bridges by name, or all", usage: true},
		{name: "old kernel", request: api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeAuto},
			prepare: func(l *lab) { l.loadError = errors.New("kernel 4.19 lacks redirect_peer (Linux 5.10)") },
			want:    "kernel 4.19 lacks redirect_peer (Linux 5.10)"},
		{name: "maps full", request: api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeAuto},
			prepare: func(l *lab) { l.syncError = errBroken }, want: "write maps: out of memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, dockerHost())
			if tt.prepare != nil {
				tt.prepare(l)
			}
			l.start(true)
			_, err := l.client.Attach(t.Context(), tt.request)
			var refused *client.RequestError
			if !errors.As(err, &refused) || !strings.Contains(refused.Message, tt.want) || strings.Contains(refused.Message, "\n") {
				t.Fatalf("got %v, want %q in one line", err, tt.want)
			}
			if refused.Usage != tt.usage {
				t.Errorf("usage: %v, want %v", refused.Usage, tt.usage)
			}
			// The agent was started for nothing, and takes everything with it.
			l.awaitEnd()
			for _, path := range []string{l.paths.State, l.paths.Socket} {
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is there: %v", path, err)
				}
			}
			if len(l.programs) != 0 || l.pinned || l.sysctl("docker0") != "0" {
				t.Errorf("programs %v, pinned %v, route_localnet %s", l.programs, l.pinned, l.sysctl("docker0"))
			}
		})
	}
}

func TestModeNativeBypassesRules(t *testing.T) {
	l := newLab(t, dockerHost())
	l.foreign = []string{"DOCKER-USER: -j DROP"}
	l.start(false)
	if _, err := l.client.Attach(t.Context(), api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeNative}); err != nil {
		t.Fatal(err)
	}
	s, err := l.client.Status(t.Context())
	if err != nil || s.Mode != modeNative {
		t.Errorf("mode %q, %v", s.Mode, err)
	}
}

func TestAttachWaits(t *testing.T) {
	l := newLab(t, dockerHost())
	l.setSysctl("br-app", "0")
	l.start(false)
	started, err := l.client.Attach(t.Context(), api.AttachRequest{Bridges: []string{"docker0", "br-app"}, Mode: modeAuto, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"br-app"}, started.Waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	l.change(func(o *policy.Observed) {
		o.Bridges = append(o.Bridges, policy.Bridge{Name: "br-app", Index: 20, MTU: 1500, MAC: mac(20), Addrs: prefixes("172.18.0.1/16")})
	})
	l.await("the bridge is attached when it comes", func() bool { return len(l.programs[20]) == 2 })
}

// K-1: an agent that comes back takes over what is attached, and gives no number away twice.
func TestRestart(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	before := l.tables
	l.stopAgent()
	if len(l.programs) != 3 || l.sysctl("docker0") != "1" {
		t.Fatalf("without an agent: programs %v, route_localnet %s", l.programs, l.sysctl("docker0"))
	}
	l.takeOps()
	l.start(false)
	ops := l.takeOps()
	for _, op := range ops {
		if strings.HasPrefix(op, "detach") || strings.HasPrefix(op, "clear") || strings.HasPrefix(op, "purge") {
			t.Errorf("the new agent took something away: %q", ops)
		}
	}
	if diff := cmp.Diff(before, l.tables); diff != "" {
		t.Errorf("tables (-before +after):\n%s", diff)
	}
	// The value found is the one from before the first agent.
	if err := l.client.Detach(t.Context(), api.DetachRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	if got := l.sysctl("docker0"); got != "0" {
		t.Errorf("route_localnet is %s", got)
	}
}

// What other tools take off is put back.
func TestResync(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	l.mu.Lock()
	delete(l.programs, 5)
	clear(l.fdb.entries)
	l.mu.Unlock()
	if err := l.agent.enter(t.Context(), func(ctx context.Context) error { return l.agent.reconcile(ctx, true) }); err != nil {
		t.Fatal(err)
	}
	if len(l.programs[5]) != 2 || len(l.fdb.entries) != 1 {
		t.Errorf("after a resync: programs %v, forwarding entries %v", l.programs, l.fdb.entries)
	}
}

func TestDetachRefuses(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	err := l.client.Detach(t.Context(), api.DetachRequest{Bridges: []string{"br1"}})
	if err == nil || err.Error() != "bridge br1 is not attached: attached are docker0" {
		t.Errorf("got %v", err)
	}
	if err := l.client.Detach(t.Context(), api.DetachRequest{All: true, Bridges: []string{"docker0"}}); err == nil {
		t.Error("all and a name together were taken")
	}
}

// A bridge that is taken off stays off, although all are attached, until it is asked for again.
func TestDetachOneOfAll(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	bridges := func() (names []string) {
		t.Helper()
		s, err := l.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range s.Bridges {
			names = append(names, b.Name)
		}
		return names
	}
	for _, step := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"all", func() error {
			_, err := l.client.Attach(t.Context(), api.AttachRequest{All: true, Mode: modeAuto})
			return err
		}, []string{"docker0"}},
		{"off", func() error { return l.client.Detach(t.Context(), api.DetachRequest{Bridges: []string{"docker0"}}) }, nil},
		{"after a restart", func() error { l.stopAgent(); l.start(false); return nil }, nil},
		{"all again", func() error {
			_, err := l.client.Attach(t.Context(), api.AttachRequest{All: true, Mode: modeAuto})
			return err
		}, []string{"docker0"}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, bridges()); diff != "" {
			t.Errorf("%s: bridges (-want +got):\n%s", step.name, diff)
		}
	}
}

// What does not fit into a map holds nobody else up, and is told.
func TestMapFull(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	l.mu.Lock()
	l.syncError = &maps.FullError{Map: "endpoints4", Entries: 1, Setting: "endpoints"}
	l.mu.Unlock()
	l.change(func(o *policy.Observed) { o.Endpoints = append(o.Endpoints, endpoint("vethdb", 6, 2, "172.17.0.3/16")) })
	l.await("the new container has programs", func() bool { return len(l.programs[6]) == 2 })
	l.await("the problem is told", func() bool {
		return slices.Contains(l.agent.status().Problems, "write maps: map endpoints4 is full at 1 entries: raise the setting endpoints")
	})
	// What was wrong before a request is no reason to refuse it.
	if _, err := l.publish("80:80", "web"); err != nil {
		t.Errorf("publish: %v", err)
	}
}

// G-12: a device that has another's number gets its programs when the maps no longer tell of the other.
func TestReusedNumber(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	l.takeOps()
	l.change(func(o *policy.Observed) {
		e := endpoint("vethnew", 5, 2, "172.17.0.9/16")
		e.NSID, e.MAC = 9, mac(9)
		o.Endpoints = []policy.Endpoint{e}
	})
	l.await("the new device has programs", func() bool { return slices.Contains(l.ops, "attach container 5") })
	if diff := cmp.Diff([]string{"clear 1", "sync", "purge 1", "attach container 5"}, l.takeOps()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// K-3: programs that another tool has taken off, with the qdisc or by themselves, are put back as soon as that is told.
func TestTorn(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	l.attach("docker0")
	l.takeOps()
	l.mu.Lock()
	delete(l.programs, 2)
	l.torn = true
	l.mu.Unlock()
	l.change(func(*policy.Observed) {})
	l.await("the bridge has programs again", func() bool { return len(l.programs[2]) == 2 })
	l.settle()
	if diff := cmp.Diff([]string{"sync", "attach bridge 2"}, l.takeOps()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
