package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is left behind must show.
func TestLeaks(t *testing.T) {
	s := NewSuite()
	s.Require(t)
	if err := s.leaks(); err != nil {
		t.Fatalf("nothing has been made yet: %v", err)
	}
	ns, err := newNetns(s.prefix + "-leak")
	if err != nil {
		t.Fatal(err)
	}
	s.ledger.instance("ebl-leak-test")
	state := Files("ebl-leak-test")[1]
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.ledger.process(cmd.Process.Pid, "sleep")
	err = s.leaks()
	for _, want := range []string{"/run/netns/" + ns.Name, state, "sleep"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not missed: %v", want, err)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := os.Remove(state); err != nil {
		t.Error(err)
	}
	_ = os.Remove(filepath.Dir(state)) // unless someone else is in it
	if err := ns.Close(); err != nil {
		t.Error(err)
	}
	if err := s.leaks(); err != nil {
		t.Errorf("all is gone: %v", err)
	}
}
