package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
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
		if n > limit*7/10 {
			t.Errorf("K-15 %s: the verifier looks at %d instructions, more than 70 %% of %d", name, n, limit)
		}
	}
}
