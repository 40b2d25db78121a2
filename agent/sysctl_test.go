package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSysctls(t *testing.T) {
	root := t.TempDir()
	s := sysctls{root: root}
	file := filepath.Join(root, "docker0", routeLocalnet)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	set := func(v string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(v+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want string) {
		t.Helper()
		if got, err := s.read("docker0", routeLocalnet); err != nil || got != want {
			t.Fatalf("value %q, %v, want %q", got, err, want)
		}
	}

	set("0")
	saved := 0
	remember := func([]SysctlRecord) error { saved++; return nil }
	records, err := s.ensure(nil, "docker0", 3, routeLocalnet, "1", remember)
	if err != nil {
		t.Fatal(err)
	}
	check("1")
	// An agent that comes back must not take its own value for the host's.
	records, err = s.ensure(records, "docker0", 3, routeLocalnet, "1", remember)
	if err != nil {
		t.Fatal(err)
	}
	if saved != 1 || len(records) != 1 || records[0].Found != "0" {
		t.Fatalf("records %v saved %d times, want one with 0 saved once", records, saved)
	}
	if err := s.restore(records[0]); err != nil {
		t.Fatal(err)
	}
	check("0")

	// The bridge was made anew, and someone else had set it already.
	set("1")
	records, err = s.ensure(records, "docker0", 4, routeLocalnet, "1", remember)
	if err != nil || len(records) != 1 || records[0].Found != "1" {
		t.Fatalf("records %v, %v, want one with 1", records, err)
	}
	if err := s.restore(SysctlRecord{Bridge: "gone", Name: routeLocalnet, Found: "0"}); err != nil {
		t.Errorf("restore on a device that is gone: %v", err)
	}

	// What cannot be remembered is not changed.
	set("0")
	broken := errors.New("disk full")
	if _, err := s.ensure(nil, "docker0", 3, routeLocalnet, "1", func([]SysctlRecord) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	check("0")
}
