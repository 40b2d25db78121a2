package interop

import (
	"fmt"
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite makes this package's hosts.
var suite = lab.NewSuite()

// flanneld is the one that the tests are given.
var flanneld = os.Getenv("FLANNELD")

func TestMain(m *testing.M) {
	if flanneld == "" {
		fmt.Println("FLANNELD names no flanneld: there is nobody to get along with")
		os.Exit(0)
	}
	os.Exit(suite.Run(m))
}
