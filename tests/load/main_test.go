package load

import (
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite makes this package's host.
var suite = lab.NewSuite()

// TestMain runs the tests, or, where a test has started this program again, its part of the crowd.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(work(role, os.Stdin, os.Stdout))
	}
	os.Exit(suite.Run(m))
}
