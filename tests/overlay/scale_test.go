package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// crowd is hosts of which there is only a record each.
type crowd struct {
	etcd  *lab.EtcdWrites
	table *lab.PeerTable
}

// Number i has 10.100.0.0/24 and what follows, and lives on 198.19.0.0/16.
func (c *crowd) subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0}), 24)
}

func (c *crowd) host(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, byte(i >> 8), byte(i)})
}

func (c *crowd) key(i int) string { return strings.ReplaceAll(c.subnet(i).String(), "/", "-") }

// put writes the records of hosts, as each of them does when it begins, or when a flanneld among them renews its lease.
func (c *crowd) put(t *testing.T, from, to int) {
	t.Helper()
	for ; from < to; from += 128 {
		var records []lab.Record
		for i := from; i < min(from+128, to); i++ {
			records = append(records, lab.Record{Subnet: c.key(i), Value: fmt.Sprintf(
				`{"PublicIP":"%s","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:%02x:%02x"}}`, c.host(i), byte(i>>8), byte(i))})
		}
		c.etcd.Put(t, records...)
	}
}

// known waits until the programs know all hosts from one number up to another, or none of them, and returns how long that took.
func (c *crowd) known(t *testing.T, from, to int, wanted bool) time.Duration {
	t.Helper()
	return lab.Eventually(t, time.Minute, func() error {
		for ; from < to; from++ {
			host := netip.Addr{}
			if wanted {
				host = c.host(from)
			}
			if err := c.table.Has(c.subnet(from), host); err != nil {
				return err
			}
		}
		return nil
	})
}

// overlay S1, overlay S2, overlay S3: a thousand and ten thousand other hosts, from etcd to the programs' tables: how long it takes until all are known, until one
// more is, until a thousand are gone, what renewals cost, and how much memory the agent has. What is known goes on working meanwhile. The
// figures are printed, not asserted: they are the machine's too.
func TestManyHosts(t *testing.T) {
	const going = 4 * 256
	g := suite.NewSegment(t, lab.Native)
	g.StartEtcd(t)
	g.Etcdctl(t, "put", lab.NetworkKey, `{"Network":"10.0.0.0/8","SubnetMin":"10.200.0.0","SubnetMax":"10.200.255.0","Backend":{"Type":"vxlan"}}`)
	a, b := g.Join(t), g.Join(t)
	ca, cb := a.Host.Run(t, "a"), b.Host.Run(t, "b")
	a.Await(t, ca)
	b.Await(t, cb)
	awaitPeer(t, a, netip.MustParsePrefix(b.Subnet(t)["FLANNEL_SUBNET"]).Masked(), b.IP)
	client := ca.NS.Dial(t, "tcp", cb.At(80))
	client.Ask(t)
	c := &crowd{g.EtcdWrites(t), a.PeerTable(t)}

	beat := ca.NS.Beat(t, 90, cb.IP.String(), 10*time.Millisecond)
	c.rush(t, a, 0, 1000)
	c.renewals(t, a)
	c.rush(t, a, 1001, 10_000)
	began := time.Now()
	c.etcd.Delete(t, "10.100.", "10.104.")
	c.known(t, 0, going, false)
	t.Logf("S3: %d hosts fewer after %v", going, time.Since(began).Round(time.Millisecond))
	c.known(t, going, 10_000, true)
	client.Ask(t)
	ca.NS.Ask(t, "udp", cb.At(80))
	if sent, lost := beat.Lost(t); lost > 0 {
		t.Errorf("%d of %d pings are lost", lost, sent)
	}
}

// rush starts the agent where there are as many hosts, of which the first ones were known before.
func (c *crowd) rush(t *testing.T, a *lab.Member, from, many int) {
	t.Helper()
	if err := a.StopAgent(); err != nil {
		t.Fatal(err)
	}
	c.put(t, from, many)
	began := time.Now()
	a.LaunchAgent(t)
	c.known(t, from, many, true)
	t.Logf("S1: %d hosts are known %v after the agent's start", many, time.Since(began).Round(time.Millisecond))
	a.StartedAgent(t)
	var took []time.Duration
	for range 10 {
		c.etcd.Delete(t, c.key(many), c.key(many)+"~")
		c.known(t, many, many+1, false)
		began := time.Now()
		c.put(t, many, many+1)
		c.known(t, many, many+1, true)
		took = append(took, time.Since(began).Round(100*time.Microsecond))
	}
	slices.Sort(took)
	t.Logf("S1: one more than %d: %v, at most %v", many, took[len(took)/2], took[len(took)-1])
	t.Logf("S1: resident with %d: %s", many, strings.Join(memory(t, a.Status(t).Agent.PID), ", "))
}

// renewals has every one of a thousand hosts renew its lease as flanneld does, by writing what is there already. Nobody has anything to do then.
func (c *crowd) renewals(t *testing.T, a *lab.Member) {
	t.Helper()
	const span, pause = 6 * time.Second, 60 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	monitor := a.NS.Command(ctx, "ip", "-4", "monitor", "link", "address", "route")
	told, err := monitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(told); s.Scan(); {
			lines <- s.Text()
		}
	}()
	pid := a.Status(t).Agent.PID
	epoch, used, began := c.table.Epoch(t), processor(t, pid), time.Now()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	n := 0
	for ; time.Since(began) < span; n++ {
		c.put(t, n, n+1)
		<-tick.C
	}
	share := float64(processor(t, pid)-used) / float64(time.Since(began))
	t.Logf("S2: %d renewals in %v: %.2f %% of a processor", n, time.Since(began).Round(time.Millisecond), 100*share)
	if now := c.table.Epoch(t); now != epoch {
		t.Errorf("renewals have moved the epoch from %d to %d", epoch, now)
	}
	cancel()
	_ = monitor.Wait()
	for line := range lines {
		t.Errorf("renewals have changed something in the kernel: %s", line)
	}
}

// processor is the time that a process has used.
func processor(t *testing.T, pid int) time.Duration {
	t.Helper()
	var total time.Duration
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		words := strings.Fields(string(b))
		if err != nil || len(words) == 0 {
			t.Fatal(err, words)
		}
		ns, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

// memory is what a process has resident, now and at most.
func memory(t *testing.T, pid int) (lines []string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines
}
