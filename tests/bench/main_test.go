package bench

import (
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite owns what the benchmark makes on the machine.
var suite = lab.NewSuite()

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }
