package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const helperEnv = "EBPFNET_TEST_BACKGROUND"

// TestBackgroundHelper is no test: it is the agent that TestStartBackground starts.
func TestBackgroundHelper(t *testing.T) {
	how := os.Getenv(helperEnv)
	if how == "" {
		t.Skip("not started as a helper")
	}
	ready, err := OpenReadiness(ReadyFD)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("helper says", how)
	switch how {
	case "ready":
		ready.Done(nil)
		time.Sleep(100 * time.Millisecond) // an agent goes on living
	case "fail":
		ready.Done(errors.New("no bpffs at /sys/fs/bpf:\nmount it"))
	}
}

func TestStartBackground(t *testing.T) {
	tests := []struct{ how, want string }{
		{how: "ready"},
		{how: "fail", want: "no bpffs at /sys/fs/bpf:; mount it"},
		{how: "die", want: "it ended without a word"},
	}
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			t.Setenv(helperEnv, tt.how)
			log := filepath.Join(t.TempDir(), "log", "default.log")
			pid, err := StartBackground(t.Context(), []string{"-test.run=^TestBackgroundHelper$"}, log)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				if _, err := os.Stat(filepath.Dir(log)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the log is left behind: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !Alive(pid) {
				t.Error("it is not alive")
			}
			for deadline := time.Now().Add(5 * time.Second); Alive(pid); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it does not end")
				}
			}
			if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), "helper says ready") {
				t.Errorf("log %q, %v", b, err)
			}
		})
	}
}
