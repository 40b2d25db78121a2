package overlay

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// long lets a test take the time that its requirement names.
var long = flag.Bool("long", false, "keep etcd away for a minute, not for half of it")

// What becomes of hosts whose records are gone, and of hosts without etcd. One pair serves; its leases are short.
func TestLeases(t *testing.T) {
	p := newPair(t, lab.Native, vxlan, "--lease-ttl", "20s")
	t.Run("rejoin", p.rejoin)
	t.Run("etcd away", p.withoutEtcd)
}

// overlay S4: a host whose record is gone, as that of one that was away for longer than its lease, has its subnet again when its agent starts, and the
// others' containers reach its own from then on; and so it is where nothing of it is left in the kernel, as after a reboot. The times are printed,
// not asserted: they are the machine's too.
func (p *pair) rejoin(t *testing.T) {
	a, b := p.hosts[0], p.hosts[1]
	table, etcd := a.PeerTable(t), p.segment.EtcdWrites(t)
	key := strings.ReplaceAll(p.subnets[1].String(), "/", "-")
	trials := 3
	if *long {
		trials = 20
	}
	for _, after := range []struct {
		what string
		do   func() error
	}{
		{"its start", func() error { return nil }},
		{"its start with nothing in the kernel", func() error {
			return b.NS.Do(func() error { return loader.RemoveAll(loader.PathsFor(b.Instance.Name)) })
		}},
	} {
		var took []time.Duration
		for range trials {
			if err := b.StopAgent(); err != nil {
				t.Fatal(err)
			}
			if err := after.do(); err != nil {
				t.Fatal(err)
			}
			etcd.Delete(t, key, key+"~")
			lab.Eventually(t, settled, func() error { return table.Has(p.subnets[1], netip.Addr{}) })
			p.c[0].NS.Unanswered(t, "udp", p.c[1].At(80))
			began := time.Now()
			b.LaunchAgent(t)
			lab.Eventually(t, settled, func() error {
				_, err := p.c[0].NS.TryAsk("udp", p.c[1].At(80), lab.Within(20*time.Millisecond))
				return err
			})
			took = append(took, time.Since(began).Round(time.Millisecond))
			b.StartedAgent(t)
			if again := netip.MustParsePrefix(b.Subnet(t)["FLANNEL_SUBNET"]).Masked(); again != p.subnets[1] {
				t.Errorf("it has %s, and had %s", again, p.subnets[1])
			}
		}
		slices.Sort(took)
		t.Logf("S4: the first packet is answered %v after %s, 19 of 20 within %v", took[trials/2], after.what, took[(trials*19-1)/20])
	}
}

// overlay E1: etcd is away for longer than the leases last. No packet is lost meanwhile, nor when it is back; containers that begin without it work;
// neither the agents' memory nor their logs grow.
func (p *pair) withoutEtcd(t *testing.T) {
	away := 25 * time.Second
	if *long {
		away = time.Minute
	}
	beat := p.c[0].NS.Beat(t, 95, p.c[1].IP.String(), 20*time.Millisecond)
	used := func() (kB [2]int, lines [2]int) {
		for i, h := range p.hosts {
			if _, err := fmt.Sscanf(memory(t, h.Status(t).Agent.PID)[1], "VmRSS: %d", &kB[i]); err != nil {
				t.Fatal(err)
			}
			log, err := os.ReadFile(h.Log())
			if err != nil {
				t.Fatal(err)
			}
			lines[i] = strings.Count(string(log), "\n")
		}
		return kB, lines
	}
	if err := p.segment.StopEtcd(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var fresh [2]*lab.Container
	for i, h := range p.hosts {
		fresh[i] = h.Host.Run(t, fmt.Sprintf("fresh%d", i))
		h.Await(t, fresh[i])
	}
	kB, lines := used()
	n := 0
	lab.Throughout(t, away-time.Since(began), func() error {
		i, network := n%2, []string{"tcp", "udp"}[n/2%2]
		n++
		if seen := fresh[i].NS.Ask(t, network, fresh[1-i].At(80)).Seen().Addr(); seen != fresh[i].IP {
			return fmt.Errorf("%s is seen as %s", fresh[i].IP, seen)
		}
		return nil
	})
	later, more := used()
	for i := range p.hosts {
		if grown := later[i] - kB[i]; grown > 16<<10 {
			t.Errorf("%s has %d kB more resident after %v", p.hosts[i].IP, grown, away)
		}
		if grown := more[i] - lines[i]; grown > 50 {
			t.Errorf("%s has logged %d lines in %v", p.hosts[i].IP, grown, away)
		}
	}
	p.segment.StartEtcd(t)
	for i, h := range p.hosts {
		lab.Eventually(t, settled, func() error {
			if s := h.Status(t).Overlay; s == nil || !s.Connected || s.Subnet != p.subnets[i].String() {
				return fmt.Errorf("%s: %+v", h.IP, s)
			}
			return nil
		})
		awaitPeer(t, h, p.subnets[1-i], p.hosts[1-i].IP)
	}
	if sent, lost := beat.Lost(t); lost > 0 {
		t.Errorf("%d of %d pings are lost", lost, sent)
	}
}

// An agent that leases a subnet, and that nothing is attached by before it ends, leaves nothing in the kernel, whether it has loaded its programs by
// then or not.
func TestUnattached(t *testing.T) {
	g := suite.NewSegment(t, lab.Native)
	g.StartEtcd(t)
	g.Etcdctl(t, "put", lab.NetworkKey, vxlan)
	m := g.Add(t)
	for _, loaded := range []bool{false, true} {
		m.StartAgent(t)
		if loaded {
			m.Loaded(t)
		}
		if err := m.StopAgent(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(loader.PathsFor(m.Instance.Name).BPFFS); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("loaded: %v: left %v, %v", loaded, left, err)
		}
	}
}
