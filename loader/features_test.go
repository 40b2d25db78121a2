package loader

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// atLeast says whether the running kernel is of that version or later: for what a test may expect, never for what the loader does.
func atLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var x, y int
	for i, f := range strings.SplitN(unix.ByteSliceToString(uts.Release[:]), ".", 3)[:2] {
		n := 0
		for _, c := range f {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		if i == 0 {
			x = n
		} else {
			y = n
		}
	}
	return x > major || x == major && y >= minor
}

func TestProbe(t *testing.T) {
	newNamespace(t)
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if missing := f.Missing(); len(missing) > 0 && atLeast(t, 5, 10) {
		t.Errorf("Missing() = %v", missing)
	}
	for _, tt := range []struct {
		name         string
		major, minor int
		got          bool
	}{
		{"tcx", 6, 6, f.TCX},
		{"fib_skip_neigh", 6, 3, f.FibSkipNeigh},
		{"fib_src", 6, 7, f.FibSrc},
		{"netns_cookie", 5, 14, f.NetnsCookie},
		{"ring_buffer", 5, 8, f.RingBuffer},
	} {
		// Distribution kernels carry later features, so only absence is checked.
		if !tt.got && atLeast(t, tt.major, tt.minor) {
			t.Errorf("%s: not found on %s", tt.name, f.Release)
		}
		if f.Map()[tt.name] != tt.got {
			t.Errorf("Map()[%q] = %v, want %v", tt.name, f.Map()[tt.name], tt.got)
		}
	}
}

// An unknown flag must be told from a known one: bit 30 means nothing to any kernel.
func TestProbeFibFlagUnknown(t *testing.T) {
	needRoot(t)
	if err := probeFibFlag(1 << 30); err == nil {
		t.Error("a flag that does not exist was found")
	}
	if err := probeFibFlag(0); err != nil {
		t.Errorf("no flags: %v", err)
	}
}

func TestProbeKfuncUnknown(t *testing.T) {
	needRoot(t)
	if err := probeKfunc("nf_conntrack", "bpf_no_such_function"); err == nil {
		t.Error("a function that does not exist was found")
	}
}

func TestFeaturesMissing(t *testing.T) {
	var f Features
	for _, row := range f.table() {
		*row.found = true
	}
	if got := f.Missing(); got != nil {
		t.Errorf("nothing is missing, but Missing() = %v", got)
	}
	f.RedirectPeer = false
	f.TCX = false
	if got := strings.Join(f.Missing(), ";"); got != "redirect_peer (Linux 5.10)" {
		t.Errorf("Missing() = %q", got)
	}
}

// The ticks of the programs' clock must be those that TicksPerSecond says.
func TestNow(t *testing.T) {
	newNamespace(t)
	f := probed(t, "")
	d := mustLoad(t, newPaths(t), f)
	start, err := d.Now()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// A virtual machine that others keep from running counts what it has missed late, and all at once.
	const late = 10
	for time.Since(began) < 300*time.Millisecond {
		now, err := d.Now()
		if err != nil {
			t.Fatal(err)
		}
		passed := time.Since(began).Seconds() * float64(f.TicksPerSecond)
		if ticks := float64(int32(now - start)); ticks > passed+late {
			t.Fatalf("%v ticks in %v s at %d a second", ticks, time.Since(began).Seconds(), f.TicksPerSecond)
		}
		runtime.Gosched()
	}
	passed := time.Since(began).Seconds() * float64(f.TicksPerSecond)
	now, err := d.Now()
	if err != nil {
		t.Fatal(err)
	}
	if ticks := float64(int32(now - start)); ticks < passed-late {
		t.Errorf("%v ticks where %v were to pass", ticks, passed)
	}
}

// K-13: without privileges there is one clear line.
func TestNoPrivileges(t *testing.T) {
	needRoot(t)
	errs := make(chan error, 2)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread without capabilities ends with this function
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			panic(err)
		}
		_, err := Probe()
		errs <- err
		_, err = Load(PathsFor("unprivileged"), Features{}, DefaultSettings())
		errs <- err
	}()
	for range 2 {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "CAP_BPF and CAP_NET_ADMIN") {
			t.Errorf("got %v", err)
		}
	}
}
