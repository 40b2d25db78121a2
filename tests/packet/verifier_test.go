package packet

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// processed is what the verifier says at the end of its log.
var processed = regexp.MustCompile(`(?m)^processed (\d+) insns \(limit`)

// TestVerifier: K-15, there is a margin to the verifier's limit. Kernels before 6.12 look at the same program twice as long.
func TestVerifier(t *testing.T) {
	const limit = 1_000_000
	version, err := features.LinuxVersionCode()
	if err != nil {
		t.Fatal(err)
	}
	most := limit / 4
	if version < 6<<16|12<<8 {
		most = limit / 2
	}
	d := load(t, options{log: ebpf.LogLevelStats})
	for name, p := range d.coll.Programs {
		found := processed.FindStringSubmatch(p.VerifierLog)
		if found == nil {
			t.Errorf("K-15 %s: no count in the log %q", name, p.VerifierLog)
			continue
		}
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Errorf("K-15 %s: %v", name, err)
		}
		t.Logf("%s: %d instructions", name, n)
		if n > most {
			t.Errorf("K-15 %s: the verifier looks at %d instructions, of which %d would leave a margin to %d", name, n, most, limit)
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
