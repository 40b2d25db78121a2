package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// size is the size of the tests in percent: LOAD, or what costs little.
func size(t *testing.T) int {
	t.Helper()
	s := os.Getenv("LOAD")
	if s == "" {
		return 15
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 100 {
		t.Fatalf("LOAD is %q: it is a percentage", s)
	}
	return n
}

const (
	firstPort   = 7100
	manyPorts   = 10
	containers  = 4
	oneTarget   = 60_000  // connections to one address and port, at full size
	manyTargets = 200_000 // over many
)

// E-8, E-6, E-1: sixty thousand connections to one address and port, from four containers that use the same source ports, of the 64,512 that
// there are; then two hundred thousand over many. All are open at once, each is answered, none gets another's answer, and none is pushed
// out of the flow table. Each asks twice, the second time when all have been asked once.
func TestMasqueradeLoad(t *testing.T) {
	suite.Require(t)
	percent := size(t)
	h := suite.NewHost(t, lab.Native)
	in := h.Instance(t)
	in.Attach(t, "--bridge", lab.Bridge, "--uplink", "up0", "--uplink", "up1")
	var nss []*lab.Netns
	for i := range containers {
		c := h.Run(t, fmt.Sprintf("crowd%d", i))
		in.Await(t, c)
		// Each container may use every port.
		c.NS.SetSysctl(t, "net/ipv4/ip_local_port_range", "1024 65535")
		nss = append(nss, c.NS)
	}
	one := []string{lab.At(lab.RemoteIP, firstPort)}
	var many, listen []string
	for i := range manyPorts {
		many = append(many, lab.At(lab.RemoteIP, firstPort+i), lab.At(lab.RemoteIP2, firstPort+i))
		listen = append(listen, lab.At("0.0.0.0", firstPort+i))
	}
	for _, tt := range []struct {
		name    string
		count   int
		targets []string
	}{
		{"to one address and port", oneTarget * percent / 100, one},
		{"to many", manyTargets * percent / 100, many},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range tt.count/perProcess + 1 {
				if err := start(t, h.Remote, answers).order("listen %s", strings.Join(listen, " ")); err != nil {
					t.Fatal(err)
				}
			}
			var parts []*part
			each := (tt.count/containers + perProcess - 1) / perProcess
			for _, ns := range nss {
				for range each {
					parts = append(parts, start(t, ns, asks))
				}
			}
			began := time.Now()
			err := all(parts, func(_ int, p *part) error {
				return p.order("open %d %s", tt.count/len(parts), strings.Join(tt.targets, " "))
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d connections in %v", tt.count/len(parts)*len(parts), time.Since(began).Round(time.Millisecond))
			for round := range 2 {
				began = time.Now()
				if err := all(parts, func(i int, p *part) error { return p.order("ask %d", round*len(parts)+i) }); err != nil {
					t.Fatal(err)
				}
				t.Logf("round %d: all answered in %v", round, time.Since(began).Round(time.Millisecond))
			}
		})
	}
}
