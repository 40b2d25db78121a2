package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/policy"
	"github.com/google/go-cmp/cmp"
)

func TestStateRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ebpfnet", "default", "state.json")
	if s, err := LoadState(path); err != nil || len(s.Intent.Bridges) != 0 {
		t.Fatalf("no file: %v, %v", s, err)
	}
	want := State{
		Version: stateVersion,
		Intent: policy.Intent{
			Bridges: []policy.BridgeIntent{{Name: "docker0", Mode: "auto"}},
			Uplinks: []string{"eth0"},
		},
		Sysctls: []SysctlRecord{{Bridge: "docker0", Index: 3, Name: routeLocalnet, Found: "0"}},
	}
	for range 2 {
		if err := SaveState(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadState(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	// What a crash in the middle of a write leaves goes with the file.
	if err := os.WriteFile(path+".123", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveState(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(path))); !os.IsNotExist(err) {
		t.Errorf("after RemoveState the folders are there: %v", err)
	}
}

func TestLoadStateRefuses(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"newer", `{"version": 99}`, "its version is 99"},
		{"without version", `{}`, "its version is 0"},
		{"damaged", `{"version": 1, "inten`, "unexpected end of JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadState(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
