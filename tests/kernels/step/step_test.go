package step

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResult(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Result
		want string
	}{
		{"ok", Result{Forward, true, "tcp, udp"}, "STEP forward ok tcp, udp"},
		{"no detail", Result{Boots, true, ""}, "STEP boots ok"},
		{"several lines", Result{Loads, false, "from_uplink:\n\tno\r\n"}, "STEP loads FAIL from_uplink: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := tt.in.String()
			if line != tt.want {
				t.Errorf("line is %q, not %q", line, tt.want)
			}
			got, ok := ParseResult(line + "\r\n")
			want := tt.in
			want.Detail = oneLine(want.Detail)
			if diff := cmp.Diff(want, got); diff != "" || !ok {
				t.Errorf("parsed %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{"", "STEP", "STEP forward", "STEP forward perhaps x", "[ 1.0] STEP forward ok"} {
		if r, ok := ParseResult(line); ok {
			t.Errorf("%q is taken for %+v", line, r)
		}
	}
	for _, line := range []string{"", "RC=", "RC=x", "rc=0", "0"} {
		if code, ok := ParseEnd(line); ok {
			t.Errorf("%q is taken for the end with %d", line, code)
		}
	}
}

func TestParseEnd(t *testing.T) {
	for _, want := range []int{0, 1, 17} {
		if got, ok := ParseEnd(End(want) + "\r\n"); !ok || got != want {
			t.Errorf("%d came back as %d, %v", want, got, ok)
		}
	}
}
