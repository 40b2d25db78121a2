package overlay

import (
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite makes this package's hosts.
var suite = lab.NewSuite()

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

// eachWorld runs a test against both of dockerd's configurations.
func eachWorld(t *testing.T, test func(t *testing.T, w lab.World)) {
	for _, w := range []lab.World{lab.Default, lab.Native} {
		t.Run(w.String(), func(t *testing.T) { test(t, w) })
	}
}
