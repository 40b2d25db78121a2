package agent

import (
	"context"
	"slices"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/policy"
)

// K-11: a bridge in mode auto changes its mode with the rules, to offload at once, and back when they have been gone for a while.
func TestModeFollowsRules(t *testing.T) {
	l := newLab(t, dockerHost())
	for i := range l.observed.Bridges {
		l.observed.Bridges[i].DockerRules = true
	}
	l.start(false)
	mode := func() (string, string) {
		s, err := l.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Bridges[0].Mode, s.Bridges[0].Reason
	}
	if _, err := l.client.Attach(t.Context(), api.AttachRequest{Bridges: []string{"docker0"}, Mode: modeAuto}); err != nil {
		t.Fatal(err)
	}
	if m, why := mode(); m != modeNative || why != "all netfilter rules in the way are Docker's own" {
		t.Errorf("mode %s, because %s", m, why)
	}
	rules := func(list ...string) { l.change(func(*policy.Observed) { l.foreign = list }) }
	offloaded := func(want bool) func() bool {
		return func() bool {
			for _, b := range l.tables.Bridges {
				return offloaded(b) == want
			}
			return false
		}
	}
	rules("DOCKER-USER: -j DROP")
	l.await("offload", offloaded(true))
	l.settle()
	if m, why := mode(); m != modeOffload || why != "rules that are not Docker's own decide (1: DOCKER-USER: -j DROP)" {
		t.Errorf("mode %s, because %s", m, why)
	}
	if l.sysctl("docker0") != "0" {
		t.Error("the host's sockets are led to containers")
	}
	// A firewall that loads its rules anew is without them for a moment.
	rules()
	l.settle()
	l.settle()
	if m, _ := mode(); m != modeOffload {
		t.Errorf("mode %s a moment after the rules have gone", m)
	}
	err := l.agent.enter(t.Context(), func(ctx context.Context) error {
		l.agent.rules.gone = l.agent.rules.gone.Add(-calm)
		return l.agent.reconcile(ctx, false)
	})
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := mode(); m != modeNative {
		t.Errorf("mode %s a while after the rules have gone", m)
	}
}

// Every rule that changes has offloaded flows put to the rules at once, and is nothing to a bridge that does without.
func TestRulesMoveTheEpoch(t *testing.T) {
	for _, mode := range []string{modeNative, modeOffload} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t, dockerHost())
			l.start(false)
			if _, err := l.client.Attach(t.Context(), api.AttachRequest{Bridges: []string{"docker0"}, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			moved := func() bool { return slices.Contains(l.ops, "move epoch") }
			l.ruled <- struct{}{}
			if mode == modeOffload {
				l.await("moved", moved)
			}
			l.ruled <- struct{}{} // the one before is taken
			l.ruled <- struct{}{}
			l.mu.Lock()
			defer l.mu.Unlock()
			if moved() != (mode == modeOffload) {
				t.Errorf("operations: %q", l.ops)
			}
		})
	}
}
