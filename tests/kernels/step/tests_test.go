package step

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTests(t *testing.T) {
	var none, some Tests
	none.Passed, some.Passed = 3, 2
	for _, reason := range []string{"no tcx (Linux 6.6)", "no memory\n\ttold", "no tcx (Linux 6.6)", ""} {
		some.Skipped(reason)
	}
	for _, tt := range []struct {
		name  string
		tests Tests
		want  string
	}{
		{"all", none, "3 passed"},
		{"some", some, "2 passed, 4 left out: no memory told; no reason given; no tcx (Linux 6.6)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.tests.String(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			r, ok := ParseResult(Result{Step: Packet, OK: true, Detail: tt.want}.String())
			if diff := cmp.Diff(tt.tests.Reasons, Reasons(r.Detail)); diff != "" || !ok {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff([]string{NoVRF}, Reasons(LeavesOut("bond, team", NoVRF))); diff != "" {
		t.Errorf("what a step leaves out (-want +got):\n%s", diff)
	}
	if got := Reasons("tcx"); got != nil {
		t.Errorf("a step without tests left out %v", got)
	}
}
