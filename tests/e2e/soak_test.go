package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// soakTime is how long the soak lasts: SOAK, as time.ParseDuration has it, or a minute.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	return d
}

// TestSoak has load in every direction while, in an order that chance has chosen, containers come and go, the agent is killed, dockerd
// restarts, ports are published and unpublished, the uplink flaps and rules are flushed (F-10, G-12, I-7, K-2, K-9, K-10). In the end no
// connection is broken, nobody has got another's packets, and nothing is left of what came and went. `make soak` runs it for ten minutes;
// SOAK_SEED repeats an order.
func TestSoak(t *testing.T) {
	span, seed := soakTime(t), uint64(time.Now().UnixNano())
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SOAK_SEED: %v", err)
		}
	}
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			t.Logf("SOAK_SEED=%d", seed)
			h := suite.NewHost(t, w, "--live-restore")
			k := &soak{site: site{h, h.Instance(t)}, dice: rand.New(rand.NewPCG(seed, uint64(w))), did: map[string]int{}}
			defer func() {
				if t.Failed() {
					k.Instance.Report(t)
				}
			}()
			k.run(t, span)
		})
	}
}

// soak is one host of the soak.
type soak struct {
	site
	web, n  *lab.Container
	load    *lab.Load
	dice    *rand.Rand
	did     map[string]int // how often each thing was done
	ported  bool           // the user's port is published
	number  int            // of containers that came and went
	slowest time.Duration  // until the agent knew of one
}

func (k *soak) run(t *testing.T, span time.Duration) {
	trouble := watchKernel(t)
	k.Remote.Serve(t, "far", ":7000")
	k.Attach(t, docker0()...)
	k.web, k.n = k.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp"), k.Run(t, "n")
	before := k.inventory(t)
	k.start(t)

	// The agent is spared in the second half, so that it can be seen whether it grows.
	k.until(t, time.Now().Add(span/2), append(k.deeds(), k.agentDeeds()...))
	k.await(t, k.web)
	young := k.agentSize(t)
	k.until(t, time.Now().Add(span/2), k.deeds())
	if k.ported {
		k.unpublish(t)
	}
	old := k.agentSize(t)
	t.Logf("done: %v; %d came and went, the agent knew of each after %v at most; the agent: %v, %v later: %v", k.did, k.number, k.slowest.Round(time.Millisecond),
		young, span/2, old)
	old.compare(t, young)

	k.judge(t, "at the end", k.load.Round(t))
	k.load.Stop()
	k.compare(t, before)
	k.noStrangers(t)
	trouble(t)
}

// start opens the connections that must live through all of it.
func (k *soak) start(t *testing.T) {
	var lines []lab.Line
	for network, count := range map[string]int{"tcp": 15, "udp": 6} {
		lines = append(lines,
			lab.Line{Name: "in", From: k.Remote, Network: network, To: lab.At(lab.HostIP, 8080), Server: "web", Count: count},
			lab.Line{Name: "out", From: k.n.NS, Network: network, To: lab.At(lab.RemoteIP, 7000), Server: "far", Count: count, Ports: 20000},
			lab.Line{Name: "out by the other", From: k.web.NS, Network: network, To: lab.At(lab.RemoteBy1, 7000), Server: "far", Count: count},
			lab.Line{Name: "local", From: k.n.NS, Network: network, To: k.web.At(80), Server: "web", Count: count},
			lab.Line{Name: "hairpin", From: k.n.NS, Network: network, To: lab.At(lab.GatewayIP, 8080), Server: "web", Count: count},
			lab.Line{Name: "host", From: k.NS, Network: network, To: k.web.At(80), Server: "web", Count: count})
	}
	k.load = lab.StartLoad(t, 100*time.Millisecond, lines...)
	k.judge(t, "before", k.load.Round(t))
}

func (k *soak) judge(t *testing.T, when string, r lab.Round) {
	t.Helper()
	if err := r.Err(); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if when == "at the end" || t.Failed() {
		t.Logf("%s: %v", when, r)
	}
}

// until does one deed after the other until the time has come, and looks at the load after each. The first failure ends it.
func (k *soak) until(t *testing.T, end time.Time, deeds []deed) {
	t.Helper()
	for round := 0; time.Now().Before(end) && !t.Failed(); round++ {
		d := deeds[k.dice.IntN(len(deeds))]
		if round < len(deeds) {
			d = deeds[round] // each at least once
		}
		began := time.Now()
		d.do(t)
		k.did[d.name]++
		k.judge(t, "after "+d.name, k.load.Round(t))
		k.fresh(t, d.name)
		if t.Failed() {
			t.Logf("%s took %v; so far: %v", d.name, time.Since(began), k.did)
		}
	}
}

// fresh begins a connection in each direction.
func (k *soak) fresh(t *testing.T, when string) {
	t.Helper()
	var all sync.WaitGroup
	for _, ask := range []struct {
		from   *lab.Netns
		to     string
		server string
	}{
		{k.Remote, lab.At(lab.HostIP, 8080), "web"}, {k.n.NS, lab.At(lab.RemoteIP, 7000), "far"}, {k.n.NS, k.web.At(80), "web"},
		{k.n.NS, lab.At(lab.GatewayIP, 8080), "web"}, {k.NS, lab.At("127.0.0.1", 8080), "web"}, {k.web.NS, lab.At(lab.HostIP, 8080), "web"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			all.Go(func() {
				a, err := ask.from.TryAsk(network, ask.to, lab.Within(3*lab.Patience))
				if err != nil {
					t.Errorf("new after %s: %v", when, err)
				} else if a.Name != ask.server {
					t.Errorf("new after %s: %s %s is answered by %s, not by %s", when, network, ask.to, a.Name, ask.server)
				}
			})
		}
	}
	all.Wait()
}

// noStrangers looks for flows and endpoints of containers that are gone.
func (k *soak) noStrangers(t *testing.T) {
	t.Helper()
	known := map[string]bool{k.web.IP.String(): true, k.n.IP.String(): true}
	lab.Eventually(t, lab.Patience, func() error {
		for _, f := range k.Flows(t) {
			for _, a := range []string{f.Original.Source, f.Original.Destination, f.Translated.Source, f.Translated.Destination} {
				if within := onDocker0Net(a); within && !known[a] {
					return fmt.Errorf("a flow of a container that is gone: %+v", f)
				}
			}
		}
		return nil
	})
	k.onlyThese(t, []*lab.Container{k.web, k.n})
}
