package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// K-14
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "default.lock")
	first, err := AcquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = AcquireLock(path)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("second lock: %v, want it held by pid %d", err, os.Getpid())
	}
	first.Release()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after release the file is there: %v", err)
	}
	again, err := AcquireLock(path)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again.Release()
}

// A lock file that a dead process left behind holds nobody up.
func TestLockLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "default.lock")
	if err := os.WriteFile(path, []byte("12345\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := AcquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
