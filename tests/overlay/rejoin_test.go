package overlay

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// overlay S4: a host whose record is gone, as that of one that was away for longer than its lease, has its subnet again when its agent starts, and the
// others' containers reach its own from then on. The times are printed, not asserted: they are the machine's too.
func TestRejoin(t *testing.T) {
	p := newPair(t, lab.Native, vxlan)
	a, b := p.hosts[0], p.hosts[1]
	table := a.PeerTable(t)
	etcd := p.segment.EtcdWrites(t)
	key := strings.ReplaceAll(p.subnets[1].String(), "/", "-")
	const trials = 5
	var took []time.Duration
	for range trials {
		if err := b.StopAgent(); err != nil {
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
	t.Logf("S4: the first packet is answered %v after the agent's start, at most %v", took[trials/2], took[trials-1])
}
