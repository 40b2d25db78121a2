package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// perfect is what a machine says where everything works.
func perfect() []step.Result {
	var all []step.Result
	for _, s := range step.All() {
		r := step.Result{Step: s.Name, OK: true}
		switch s.Name {
		case step.Hook:
			r.Detail = "clsact"
		case step.Features:
			r.Detail = "fib_src tcx"
		}
		all = append(all, r)
	}
	return all
}

func TestJudge(t *testing.T) {
	change := func(name string, f func(*step.Result)) []step.Result {
		all := perfect()
		for i := range all {
			if all[i].Step == name {
				f(&all[i])
			}
		}
		return all
	}
	memory := []string{"no memory"}
	for _, tt := range []struct {
		name    string
		outcome outcome
		passed  bool
		says    string // the line below the table
		leaves  []string
	}{
		{"all well", outcome{results: perfect(), ended: true}, true, "", nil},
		{
			"a step failed", outcome{results: change(step.Publish, func(r *step.Result) { r.OK, r.Detail = false, "no answer" }), ended: true},
			false, "k: publish: no answer", nil,
		},
		{"a step is missing", outcome{results: perfect()[:3], ended: true}, false, "", nil},
		{
			"a step that nobody asked for", outcome{results: slices.DeleteFunc(perfect(), func(r step.Result) bool { return r.Step == step.Loader }),
				left: []string{step.Loader}, ended: true}, true, "", nil,
		},
		{"no end", outcome{results: perfect()}, false, "without saying how", nil},
		{"bad end", outcome{results: perfect(), ended: true, code: 2}, false, "RC=2", nil},
		{"complaint", outcome{results: perfect(), ended: true, err: errors.New("the kernel complained")}, false, "k: the kernel complained", nil},
		{
			"another hook", outcome{results: change(step.Hook, func(r *step.Result) { r.Detail = "tcx" }), ended: true},
			false, "k: hook: tcx, and not clsact", nil,
		},
		{
			"a feature more", outcome{results: change(step.Features, func(r *step.Result) { r.Detail = "tcx" }), ended: true},
			false, "k: features: lacks [tcx]", nil,
		},
		{
			"tests left out as the table says", outcome{results: change(step.Loader, func(r *step.Result) { r.Detail = "3 passed, 1 left out: no memory" }), ended: true},
			true, "k: loader: 3 passed, 1 left out: no memory", memory,
		},
		{
			"tests left out for another reason", outcome{results: change(step.Packet, func(r *step.Result) { r.Detail = "3 passed, 2 left out: no memory; no time" }), ended: true},
			false, "k: packet: 3 passed, 2 left out: no memory; no time", memory,
		},
		{
			"no test is left out where the table says so", outcome{results: change(step.Loader, func(r *step.Result) { r.Detail = "4 passed" }), ended: true},
			false, `k: nothing is left out because "no memory"`, memory,
		},
		{
			"some tests that nobody asked for", outcome{results: change(step.Packet, func(r *step.Result) { r.Detail = "3 passed" }), part: []string{step.Packet},
				ended: true}, true, "", memory,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.outcome
			o.kernel = kernel{name: "k", hook: "clsact", lacks: []string{"fib_src", "tcx"}, leaves: tt.leaves}
			if o.judge(); o.passed() != tt.passed {
				t.Errorf("passed: %v", o.passed())
			}
			var buf bytes.Buffer
			if err := writeTable(&buf, []*outcome{&o}); err != nil {
				t.Fatal(err)
			}
			if asked := len(tt.outcome.left) == 0; strings.Contains(strings.Split(buf.String(), "\n")[1], "left out") == asked {
				t.Errorf("what was left out is not told, or is told of what was not:\n%s", &buf)
			}
			below := strings.SplitN(buf.String(), "\n", 3)[2]
			if !strings.Contains(below, tt.says) || tt.says == "" && below != "" {
				t.Errorf("below the table stands %q, not %q", below, tt.says)
			}
		})
	}
}

func TestComplains(t *testing.T) {
	for line, want := range map[string]bool{
		"[   12.345678] WARNING: CPU: 1 PID: 77 at kernel/bpf/verifier.c:1 x+0x1/0x2": true,
		"[   12.345678] BUG: kernel NULL pointer dereference, address: 0":             true,
		"[    1.000000] bridge: filtering via arp/ip/ip6tables is no longer":          false,
		"WARNING: a test says so": false,
	} {
		if got := complains(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
