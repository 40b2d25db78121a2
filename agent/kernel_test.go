package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReservedPorts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports")
	for content, want := range map[string][]uint16{
		"\n":               nil,
		"8080,9000-9002\n": {8080, 9000, 9001, 9002},
		"65534-65535,1\n":  {65534, 65535, 1},
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := reservedPorts(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", content, diff)
		}
	}
}
