// Package imports holds the packages of this project to one direction: cmd -> agent -> policy -> maps -> bpf, with loader beside policy
// and metrics reading maps. Nothing imports upward, nothing imports the tests, and the policy does no input or output.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/ebpfnet/ebpfnet"

// layer gives the height of a package: it may import what is lower, and its own folder's packages.
func layer(folder string) (int, bool) {
	heights := map[string]int{"bpf": 0, "maps": 1, "loader": 2, "policy": 2, "metrics": 2, "agent": 3, "cmd": 4, "tests": 5}
	h, ok := heights[folder]
	return h, ok
}

// shapesOnly are packages that import nothing of this project.
func shapesOnly(path string) bool { return path == module+"/bpf" || path == module+"/agent/api" }

// forbiddenToPolicy are the ways to the world outside: the policy is told what there is.
func forbiddenToPolicy(path string) bool {
	for _, p := range []string{"os", "os/exec", "syscall", "net/http", "io/fs", "golang.org/x/sys/unix", "log/slog"} {
		if path == p {
			return true
		}
	}
	for _, prefix := range []string{"github.com/vishvananda/", "github.com/moby/", "github.com/cilium/ebpf", "github.com/florianl/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func folder(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// fault says what is wrong with one import, or nothing.
func fault(from, to string) string {
	if folder(from) == "policy" && forbiddenToPolicy(to) {
		return "the policy is pure: it is told what there is"
	}
	target := folder(to)
	if target == "" {
		return ""
	}
	if shapesOnly(from) {
		return "imports nothing of this project"
	}
	if folder(from) == target {
		return ""
	}
	low, known := layer(target)
	high, ok := layer(folder(from))
	switch {
	case !known || !ok:
		return "a folder without a place in the order: give it one in tests/imports"
	case low >= high:
		return "imports run downward: cmd, agent, then loader, metrics and policy, then maps, then bpf"
	}
	return ""
}

func TestFault(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		bad            bool
	}{
		{"down", "/agent", "/policy", false},
		{"far down", "/cmd/ebpfnet", "/bpf", false},
		{"own folder", "/agent", "/agent/observe", false},
		{"up", "/maps", "/policy", true},
		{"across", "/metrics", "/loader", true},
		{"to the tests", "/cmd/ebpfnet", "/tests/e2e", true},
		{"shapes", "/agent/api", "/policy", true},
		{"shapes in their folder", "/agent/api", "/agent/observe", true},
		{"new folder", "/helpers", "/bpf", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := fault(module+tt.from, module+tt.to); (got != "") != tt.bad {
				t.Errorf("%s -> %s: %q", tt.from, tt.to, got)
			}
		})
	}
	if fault(module+"/policy", "os") == "" {
		t.Error("policy may import os")
	}
}

func TestDirection(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, to := range p.Imports {
			if why := fault(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d packages seen", seen)
	}
}
