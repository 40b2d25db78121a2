package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// How soon settle looks again when nothing has been heard of.
const (
	settled  = time.Minute
	contend  = 200 * time.Millisecond // another was quicker; the watch will tell who
	noSubnet = time.Second
)

// settle makes etcd say what this host wants it to say. Out: when to look again if nothing happens until then.
func (m *Member) settle(ctx context.Context, c *clientv3.Client) (time.Duration, error) {
	if !m.network.Prefix.IsValid() {
		m.state = Waiting
		problem := m.warned["config"]
		if problem == "" {
			problem = fmt.Sprintf("waiting for %s in etcd", m.o.Etcd.configKey())
		}
		m.publish(problem, true)
		return settled, nil
	}
	if problem, wait, err := m.checkClash(); err != nil || problem != "" {
		m.publish(problem, true)
		return wait, err
	}
	wait, problem, err := m.claim(ctx, c)
	if err != nil {
		return 0, err
	}
	if m.state == Joined {
		if err := m.live(ctx, c); err != nil {
			return 0, err
		}
	}
	m.publish(problem, true)
	return wait, nil
}

// checkClash finds another living host that says it is this one: by the id, as a copied machine does, or by the address. What is left of a
// host that died goes away with its life sign.
func (m *Member) checkClash() (problem string, wait time.Duration, err error) {
	who := m.clashing()
	if who == "" || m.state == Joined || m.state == Lost {
		m.clash = time.Time{}
		return "", 0, nil
	}
	if m.clash.IsZero() {
		m.clash = time.Now()
	}
	if time.Since(m.clash) > m.o.LifeSign+pulseEvery {
		return "", 0, fmt.Errorf("%w: %s; two hosts need an address and a state folder each", errClash, who)
	}
	return who, time.Second, nil
}

func (m *Member) clashing() string {
	if a, ok := m.nodes[m.memory.Node]; ok && a.Session != m.o.Session && a.Public != m.o.Public {
		return fmt.Sprintf("node %s lives at %s", m.memory.Node, a.Public)
	}
	for node, a := range m.nodes {
		if node != m.memory.Node && a.Public == m.o.Public {
			return fmt.Sprintf("node %s has this host's address %s", node, a.Public)
		}
	}
	return ""
}

// own finds the record that is this host's: by its id; else by its address, as flannel left it or an ebpfnet that died there.
func (m *Member) own() (found entry, ok bool) {
	for _, e := range m.entries {
		p := e.Subnet()
		if !p.IsValid() {
			continue
		}
		r, err := e.Record()
		if err == nil && r.Node == m.memory.Node {
			return e, true
		}
		// A broken record tells its address all the same.
		if r.PublicIP == m.o.Public && (!ok || p.Addr().Less(found.Subnet().Addr())) {
			found, ok = e, true
		}
	}
	return found, ok
}

// honoured tells whether a subnet that stands in etcd for this host may be kept: it is one of those that are given out, or one that
// somebody reserved by hand, without a lease, anywhere in the network.
func (m *Member) honoured(e entry) bool {
	p := e.Subnet()
	if m.network.Fits(p) {
		return true
	}
	return e.lease == clientv3.NoLease && e.modified > 0 && p.Bits() > m.network.Prefix.Bits() && p.Bits() <= 30 && m.network.Prefix.Contains(p.Addr())
}

// claim holds a subnet: the one that etcd says is this host's, else the one that it had, else a free one.
func (m *Member) claim(ctx context.Context, c *clientv3.Client) (time.Duration, string, error) {
	if e, found := m.own(); found {
		if m.honoured(e) {
			return m.keep(ctx, c, e)
		}
		m.log.Warn("overlay", "subnet", e.Subnet(), "problem", "it does not fit the network any more and is given back")
		if err := m.forget(ctx, c, e); err != nil {
			return 0, "", err
		}
		return contend, "", nil
	}
	m.lease = clientv3.NoLease
	had := m.memory.Subnet
	if m.network.Fits(had) {
		if !m.taken(had) {
			return m.create(ctx, c, had)
		}
		if !m.o.Renumber {
			m.state = Lost
			problem := fmt.Sprintf("another host holds %s: containers here keep their addresses, but other hosts reach that one; start the "+
				"agent with --on-conflict renumber to take another subnet", had)
			m.warn("subnet", problem)
			return settled, problem, nil
		}
		m.warn("subnet", fmt.Sprintf("another host holds %s: taking another subnet", had))
	}
	if m.network.Fits(m.o.Wanted) && !m.taken(m.o.Wanted) {
		return m.create(ctx, c, m.o.Wanted)
	}
	free, ok := m.network.Choose(m.allTaken(), m.seed())
	if !ok {
		m.state = Seeking
		problem := fmt.Sprintf("no subnet is free in %s to %s", m.network.SubnetMin, m.network.SubnetMax)
		m.warn("subnet", problem)
		return noSubnet, problem, nil
	}
	return m.create(ctx, c, free)
}

// seed makes hosts begin their search at different places.
func (m *Member) seed() uint64 {
	h := fnv.New64a()
	h.Write([]byte(m.memory.Node))
	return h.Sum64()
}

func (m *Member) taken(p netip.Prefix) bool {
	for _, q := range m.allTaken() {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}

// allTaken are the subnets that somebody has. A record for more than one host's share counts only where it makes a peer: nobody can keep
// the others out by claiming everything.
func (m *Member) allTaken() []netip.Prefix {
	var all []netip.Prefix
	for _, e := range m.entries {
		if p := e.Subnet(); p.IsValid() && p.Bits() >= m.network.SubnetLen {
			all = append(all, p)
		}
	}
	peers, _ := m.network.Accept(m.others(), overlay.Self{Public: m.self().Public})
	for _, p := range peers {
		if p.Subnet.Bits() < m.network.SubnetLen {
			all = append(all, p.Subnet)
		}
	}
	return all
}

func (m *Member) record() ([]byte, error) {
	r := overlay.Record{PublicIP: m.o.Public, Kind: m.network.Kind, VNI: m.network.VNI, Node: m.memory.Node}
	if m.network.Kind == overlay.VXLAN {
		r.MAC = m.mac
	}
	return r.Encode()
}

// create writes a record where there is none.
func (m *Member) create(ctx context.Context, c *clientv3.Client, p netip.Prefix) (time.Duration, string, error) {
	value, err := m.record()
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	granted, err := c.Grant(ctx, int64(m.o.TTL/time.Second))
	if err != nil {
		return 0, "", fmt.Errorf("get a lease: %w", err)
	}
	done, err := m.write(ctx, c, entry{Entry: overlay.Entry{Key: overlay.SubnetKey(p)}}, value, granted.ID)
	if err != nil {
		return 0, "", err
	}
	if !done {
		m.revoke(ctx, c, granted.ID)
		return contend, "", nil
	}
	return m.joined(p, granted.ID), "", nil
}

// keep goes on with a record that is there. It is written only where it says something else: a write wakes every other host.
func (m *Member) keep(ctx context.Context, c *clientv3.Client, e entry) (time.Duration, string, error) {
	p := e.Subnet()
	// Whoever ran here before had this address; peers that know it need not learn another.
	if r, err := e.Record(); err == nil && r.MAC != nil && m.memory.MAC == "" {
		m.mac = r.MAC
	}
	value, err := m.record()
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lease, fresh, err := m.leaseFor(ctx, c, e)
	if err != nil {
		return 0, "", err
	}
	if !fresh && bytes.Equal(value, e.Value) {
		return m.joined(p, lease), "", nil
	}
	done, err := m.write(ctx, c, e, value, lease)
	if err != nil {
		return 0, "", err
	}
	if !done {
		if fresh {
			m.revoke(ctx, c, lease)
		}
		return contend, "", nil
	}
	return m.joined(p, lease), "", nil
}

// leaseFor gives the lease that a record is to have: none where it is a reservation, its own where that still runs and lasts as long as it
// should, else a fresh one.
func (m *Member) leaseFor(ctx context.Context, c *clientv3.Client, e entry) (id clientv3.LeaseID, fresh bool, err error) {
	if e.lease == clientv3.NoLease || e.lease == m.lease {
		return e.lease, false, nil
	}
	r, err := c.KeepAliveOnce(ctx, e.lease)
	if err == nil && r.TTL == int64(m.o.TTL/time.Second) {
		return e.lease, false, nil
	}
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return 0, false, fmt.Errorf("renew a lease: %w", err)
	}
	granted, err := c.Grant(ctx, int64(m.o.TTL/time.Second))
	if err != nil {
		return 0, false, fmt.Errorf("get a lease: %w", err)
	}
	return granted.ID, true, nil
}

// write puts a record in place of the one that was seen, and nothing else. Out: false where somebody was quicker.
func (m *Member) write(ctx context.Context, c *clientv3.Client, seen entry, value []byte, lease clientv3.LeaseID) (bool, error) {
	key := m.o.Etcd.subnetKey(seen.Key)
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", seen.modified)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(lease))).Commit()
	if err != nil {
		return false, fmt.Errorf("write %s: %w", key, err)
	}
	if !r.Succeeded {
		return false, nil
	}
	created := seen.Created
	if created == 0 {
		created = r.Header.Revision
	}
	m.entries[seen.Key], m.verdict.holds = entry{overlay.NewEntry(seen.Key, value, created), r.Header.Revision, lease}, false
	return true, nil
}

// forget takes back a record of this host's, if it is still as it was seen.
func (m *Member) forget(ctx context.Context, c *clientv3.Client, seen entry) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key := m.o.Etcd.subnetKey(seen.Key)
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", seen.modified)).Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if r.Succeeded {
		delete(m.entries, seen.Key)
		m.verdict.holds = false
	}
	return nil
}

// revoke gives back a lease that nothing hangs on. One that stays ends by itself.
func (m *Member) revoke(ctx context.Context, c *clientv3.Client, id clientv3.LeaseID) {
	if _, err := c.Revoke(ctx, id); err != nil {
		m.log.Debug("overlay", "revoke", id, "error", err)
	}
}

func (m *Member) joined(p netip.Prefix, lease clientv3.LeaseID) time.Duration {
	m.state, m.lease = Joined, lease
	m.clear("subnet")
	if m.memory.Subnet != p || m.memory.MAC == "" {
		m.memory.Subnet, m.memory.MAC, m.dirty = p, m.mac.String(), true
		m.save()
	}
	return settled
}

// live puts up the life sign.
func (m *Member) live(ctx context.Context, c *clientv3.Client) error {
	if a, ok := m.nodes[m.memory.Node]; ok && m.living != clientv3.NoLease && a.Session == m.o.Session && a.Public == m.o.Public {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sign := alive{Session: m.o.Session, Public: m.o.Public}
	value, err := json.Marshal(sign)
	if err != nil {
		return fmt.Errorf("life sign: %w", err)
	}
	granted, err := c.Grant(ctx, int64(m.o.LifeSign/time.Second))
	if err != nil {
		return fmt.Errorf("life sign: %w", err)
	}
	if _, err := c.Put(ctx, m.o.Etcd.nodeKey(m.memory.Node), string(value), clientv3.WithLease(granted.ID)); err != nil {
		return fmt.Errorf("life sign: %w", err)
	}
	m.living, m.nodes[m.memory.Node] = granted.ID, sign
	return nil
}
