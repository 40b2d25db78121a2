package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// TestVerifier: K-15, there is a margin to the verifier's limit, which other kernels need more of.
func TestVerifier(t *testing.T) {
	const limit = 1_000_000
	d := load(t, options{log: ebpf.LogLevelStats})
	for name, p := range d.coll.Programs {
		_, stats, _ := strings.Cut(p.VerifierLog, "processed ")
		var n int
		if _, err := fmt.Sscanf(stats, "%d insns", &n); err != nil {
			t.Errorf("K-15 %s: no count in the log %q", name, p.VerifierLog)
		}
		t.Logf("%s: %d instructions", name, n)
		if n > limit/4 {
			t.Errorf("K-15 %s: the verifier looks at %d instructions, more than a quarter of %d", name, n, limit)
		}
	}
}

// TestOneClock: F-9, the ages of entries are told by the kernel's ticks since it started, which the machine's date does not move and a sleeping
// machine does not turn. Events say nanoseconds of a clock of the same kind. No program asks for one that the date moves, or that runs on in
// sleep, when no peer could have been answered.
func TestOneClock(t *testing.T) {
	spec, err := bpf.LoadDatapath()
	if err != nil {
		t.Fatal(err)
	}
	ticks := 0
	for name, p := range spec.Programs {
		for _, ins := range p.Instructions {
			if !ins.IsBuiltinCall() {
				continue
			}
			switch asm.BuiltinFunc(ins.Constant) {
			case asm.FnJiffies64:
				ticks++
			case asm.FnKtimeGetTaiNs, asm.FnKtimeGetBootNs:
				t.Errorf("F-9 %s asks another clock: %v", name, ins)
			}
		}
	}
	if ticks == 0 {
		t.Error("F-9 no program asks for the time")
	}
}
