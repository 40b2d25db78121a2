package loader

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// K-4: grace periods are short while a program is put on a hook, and then as they were: as somebody else has set them, or sets them meanwhile,
// and as usual after an agent that died with them short.
func TestExpedited(t *testing.T) {
	needRoot(t)
	f, err := os.OpenFile(gracePath, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := func(n int) {
		t.Helper()
		if err := os.WriteFile(gracePath, []byte(strconv.Itoa(n)), 0); err != nil {
			t.Fatal(err)
		}
	}
	get := func() string {
		t.Helper()
		b, err := os.ReadFile(gracePath)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	t.Cleanup(func() { set(0) })
	mark := strconv.Itoa(graceMark)
	for _, tt := range []struct {
		name         string
		before       int
		during, then string
		meanwhile    int // written by somebody else; -1: nothing
	}{
		{"as usual", 0, mark, "0", -1},
		{"short already", 1, "1", "1", -1},
		{"an agent died", graceMark, mark, "0", -1},
		{"made short meanwhile", 0, mark, "1", 1},
	} {
		set(tt.before)
		failed := errors.New("failed")
		err := expedited(func() error {
			if got := get(); got != tt.during {
				t.Errorf("%s: %s meanwhile, want %s", tt.name, got, tt.during)
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && tt.during == mark {
				t.Errorf("%s: another instance could change it", tt.name)
			}
			_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
			if tt.meanwhile >= 0 {
				set(tt.meanwhile)
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if got := get(); got != tt.then {
			t.Errorf("%s: %s afterwards, want %s", tt.name, got, tt.then)
		}
	}
}
