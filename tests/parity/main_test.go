package parity

import (
	"flag"
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite owns what the test makes on the machine.
var suite = lab.NewSuite()

// Cases wait far more than they compute: all columns, and in each many cases, run at once whatever the number of CPUs.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "120"); err != nil {
		panic(err)
	}
	os.Exit(suite.Run(m))
}
