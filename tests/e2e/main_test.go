// Package e2e proves what ebpfnet owes a Docker host's packets, end to end: a real dockerd in its own namespace, in both worlds, with the
// product attached as a user attaches it. Each test names the correctness ids that it proves.
package e2e

import (
	"flag"
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite is shared by all tests of the package: hosts cost more than most of them.
var suite = lab.NewSuite()

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the screenshots in docs/ anew")
	os.Exit(suite.Run(m))
}

// docker0 attaches docker0 over both uplinks; by itself, attach takes the one with the default route.
func docker0() []string {
	return []string{"--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "up1"}
}

// site is a host with the product on it.
type site struct {
	*lab.Host
	*lab.Instance
}

// worlds are both configurations of dockerd.
func worlds() []lab.World { return []lab.World{lab.Default, lab.Native} }

// eachWorld runs a test on the shared host of each world, at the same time, with docker0 attached over both uplinks. Tests leave the host as
// they find it; those that cannot take ownSite.
func eachWorld(t *testing.T, fn func(t *testing.T, s site)) {
	t.Helper()
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			h := suite.SharedHost(t, w)
			in := h.SharedInstance(t, docker0()...)
			// Before anything is cleaned up.
			defer func() {
				if t.Failed() {
					in.Report(t)
				}
			}()
			fn(t, site{h, in})
		})
	}
}

// ownSites runs a test on a host of its own in each world. Nothing is attached yet.
func ownSites(t *testing.T, fn func(t *testing.T, s site)) {
	t.Helper()
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			h := suite.NewHost(t, w)
			in := h.Instance(t)
			defer func() {
				if t.Failed() {
					in.Report(t)
				}
			}()
			fn(t, site{h, in})
		})
	}
}

// eq reports a difference and goes on.
func eq[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// both are the protocols that most tests go through.
func both(t *testing.T, fn func(t *testing.T, network string)) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) { fn(t, network) })
	}
}
