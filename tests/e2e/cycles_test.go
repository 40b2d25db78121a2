package e2e

import (
	"os"
	"testing"
	"time"
)

// G-12, E-16: namespaces start and stop on a bridge one after the other, all with the same address, MAC, ifindex and ports. Each is answered what it
// asked, each answers for itself, and in the end no flow and no endpoint of theirs is left. Forty of them in each world, and a thousand in `make soak`.
func TestCycles(t *testing.T) {
	cycles := 40
	if os.Getenv("SOAK") != "" {
		cycles = 1000
	}
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		s.Remote.Serve(t, "far", ":7000")
		began, slowest := time.Now(), time.Duration(0)
		for i := range cycles {
			slowest = max(slowest, cycle(t, s, i))
			if t.Failed() {
				t.Fatalf("in cycle %d", i)
			}
		}
		t.Logf("%d cycles in %v; the agent knew of each after %v at most", cycles, time.Since(began).Round(time.Millisecond), slowest.Round(time.Millisecond))
		k := soak{site: s, web: s.Run(t, "web"), n: s.Run(t, "n")}
		k.noStrangers(t)
	})
}
