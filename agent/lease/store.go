package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// errOlder is told of a store that has gone back, as one that was wiped or restored has: what is known of it is worth nothing.
var errOlder = errors.New("the store has gone back in time")

// list reads all of the network at one revision, in one request.
func (m *Member) list(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, err := c.Get(ctx, m.o.Etcd.Prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("read %s: %w", m.o.Etcd.Prefix, err)
	}
	m.lists.Add(1)
	m.clear("etcd")
	m.revision, m.cluster = r.Header.Revision, r.Header.ClusterId
	m.entries, m.nodes, m.verdict.holds = make(map[string]entry, len(r.Kvs)), map[string]alive{}, false
	var config []byte
	for _, kv := range r.Kvs {
		if string(kv.Key) == m.o.Etcd.configKey() {
			config = kv.Value
			continue
		}
		m.put(kv)
	}
	m.configure(config)
	m.dirty = true
	return nil
}

// apply takes in what the watch brought. Out: whether there is anything to settle.
func (m *Member) apply(r *clientv3.WatchResponse) bool {
	m.revision = max(m.revision, r.Header.Revision)
	changed := false
	for _, e := range r.Events {
		switch {
		case string(e.Kv.Key) == m.o.Etcd.configKey() && e.Type == mvccpb.DELETE:
			m.configure(nil)
			changed = true
		case string(e.Kv.Key) == m.o.Etcd.configKey():
			m.configure(e.Kv.Value)
			changed = true
		case e.Type == mvccpb.DELETE:
			m.remove(string(e.Kv.Key))
			changed = true
		case m.put(e.Kv):
			changed = true
		}
	}
	m.dirty = m.dirty || changed
	return changed
}

// put takes in a key that was written. Out: whether that is news. A host of flannel's renews its lease by writing what is there already.
func (m *Member) put(kv *mvccpb.KeyValue) bool {
	key := string(kv.Key)
	if element, ok := strings.CutPrefix(key, m.o.Etcd.subnetsPrefix()); ok {
		old, known := m.entries[element]
		if known && old.Created == kv.CreateRevision && bytes.Equal(old.Value, kv.Value) {
			old.modified, old.lease = kv.ModRevision, clientv3.LeaseID(kv.Lease)
			m.entries[element] = old
			return m.memory.Subnet.IsValid() && old.Subnet() == m.memory.Subnet
		}
		m.entries[element] = entry{overlay.NewEntry(element, kv.Value, kv.CreateRevision), kv.ModRevision, clientv3.LeaseID(kv.Lease)}
		m.verdict.holds = false
		return true
	}
	if node, ok := strings.CutPrefix(key, m.o.Etcd.nodesPrefix()); ok {
		var a alive
		// One that cannot be read is nobody's.
		if json.Unmarshal(kv.Value, &a) == nil {
			m.nodes[node] = a
		}
		return true
	}
	return false
}

func (m *Member) remove(key string) {
	if element, ok := strings.CutPrefix(key, m.o.Etcd.subnetsPrefix()); ok {
		delete(m.entries, element)
		m.verdict.holds = false
	}
	if node, ok := strings.CutPrefix(key, m.o.Etcd.nodesPrefix()); ok {
		delete(m.nodes, node)
	}
}

// configure takes up the configuration where there is none yet. A host goes on with the one that it started with: a network that changes
// under running containers would cut all of them off.
func (m *Member) configure(value []byte) {
	switch {
	case value == nil:
		// Nothing is told by it: the store may have been wiped.
	case m.state == Joined || m.state == Lost:
		m.restart = !overlay.Equal(value, m.config)
	default:
		n, err := overlay.ParseNetwork(value)
		if err != nil {
			m.warn("config", err.Error())
			return
		}
		m.clear("config")
		m.network, m.config, m.restart = n, value, false
	}
}

// pulse tells the others that this host lives, and itself whether the store is still the one that it knows.
func (m *Member) pulse(ctx context.Context, c *clientv3.Client) error {
	progress, cancelProgress := context.WithTimeout(ctx, requestTimeout)
	defer cancelProgress()
	if err := c.RequestProgress(progress); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var revision int64
	var cluster uint64
	if m.living == clientv3.NoLease {
		r, err := c.Get(request, m.o.Etcd.configKey())
		if err != nil {
			return fmt.Errorf("read %s: %w", m.o.Etcd.configKey(), err)
		}
		revision, cluster = r.Header.Revision, r.Header.ClusterId
	} else {
		r, err := c.KeepAliveOnce(request, m.living)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			m.living = clientv3.NoLease
			return errors.New("the life sign has ended")
		}
		if err != nil {
			return fmt.Errorf("life sign: %w", err)
		}
		revision, cluster = r.Revision, r.ClusterId
	}
	if revision < m.revision || cluster != m.cluster {
		return errOlder
	}
	return nil
}

// renew makes the lease of the host's record last.
func (m *Member) renew(ctx context.Context, c *clientv3.Client) error {
	if m.state != Joined || m.lease == clientv3.NoLease {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := c.KeepAliveOnce(ctx, m.lease); err != nil {
		return fmt.Errorf("renew the lease of %s: %w", m.memory.Subnet, err)
	}
	m.renewed.Add(1)
	return nil
}
