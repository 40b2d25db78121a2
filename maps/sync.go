package maps

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Changes is what Sync has written.
type Changes struct {
	Tables []TableChanges // those with a change
	Epoch  uint32         // the one in force now
}

// TableChanges are numbers of entries of one map.
type TableChanges struct {
	Map                     string
	Added, Changed, Deleted int
}

// Any tells whether anything was written.
func (c Changes) Any() bool {
	return len(c.Tables) > 0
}

// String gives one line for a log.
func (c Changes) String() string {
	parts := make([]string, len(c.Tables))
	for i, t := range c.Tables {
		parts[i] = fmt.Sprintf("%s +%d ~%d -%d", t.Map, t.Added, t.Changed, t.Deleted)
	}
	return strings.Join(parts, ", ")
}

// tables are the maps of a State.
type tables struct {
	endpoints table[bpf.AddrKey, bpf.Endpoint]
	bridges   table[uint32, bpf.Bridge]
	veths     table[uint32, bpf.Veth]
	uplinks   table[uint32, bpf.Uplink]
	hostAddrs table[bpf.AddrKey, bpf.HostAddr]
	subnets   table[bpf.PrefixKey, bpf.Subnet]
	publish   table[bpf.PublishKey, bpf.Publish]
	peers     table[bpf.PrefixKey, bpf.Peer]
	peerHosts table[bpf.AddrKey, bpf.PeerHost]
	overlay   table[uint32, bpf.Overlay]
	from      table[bpf.PublishFromKey, bpf.PublishFrom]
	classes   table[bpf.ClassKey, bpf.Class]
	pairs     table[bpf.PairKey, bpf.Pair]
	profiles  table[bpf.ProfileKey, bpf.Profile]
}

func (m *Maps) tables() tables {
	return tables{
		endpoints: table[bpf.AddrKey, bpf.Endpoint]{bpf.DatapathMapEndpoints4, "endpoints", m.o.Endpoints4},
		bridges:   table[uint32, bpf.Bridge]{bpf.DatapathMapBridges4, "", m.o.Bridges4},
		veths:     table[uint32, bpf.Veth]{bpf.DatapathMapVeths, "endpoints", m.o.Veths},
		uplinks:   table[uint32, bpf.Uplink]{bpf.DatapathMapUplinks4, "", m.o.Uplinks4},
		hostAddrs: table[bpf.AddrKey, bpf.HostAddr]{bpf.DatapathMapHostAddrs4, "", m.o.HostAddrs4},
		subnets:   table[bpf.PrefixKey, bpf.Subnet]{bpf.DatapathMapSubnets4, "", m.o.Subnets4},
		publish:   table[bpf.PublishKey, bpf.Publish]{bpf.DatapathMapPublish4, "published", m.o.Publish4},
		peers:     table[bpf.PrefixKey, bpf.Peer]{bpf.DatapathMapPeers4, "", m.o.Peers4},
		peerHosts: table[bpf.AddrKey, bpf.PeerHost]{bpf.DatapathMapPeerHosts4, "", m.o.PeerHosts4},
		overlay:   table[uint32, bpf.Overlay]{bpf.DatapathMapOverlay, "", m.o.Overlay},
		from:      table[bpf.PublishFromKey, bpf.PublishFrom]{bpf.DatapathMapPublishFrom4, "", m.o.PublishFrom4},
		classes:   table[bpf.ClassKey, bpf.Class]{bpf.DatapathMapClasses4, "", m.o.Classes4},
		pairs:     table[bpf.PairKey, bpf.Pair]{bpf.DatapathMapPairs, "", m.o.Pairs},
		profiles:  table[bpf.ProfileKey, bpf.Profile]{bpf.DatapathMapProfiles, "", m.o.Profiles},
	}
}

// overlayEntries is the overlay's map, an array of one entry that is always there.
func overlayEntries(o bpf.Overlay) map[uint32]bpf.Overlay { return map[uint32]bpf.Overlay{0: o} }

// Load reads what the kernel holds. The caller must not change it.
func (m *Maps) Load() (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(); err != nil {
		return State{}, err
	}
	return *m.have, nil
}

// load fills have from the kernel.
func (m *Maps) load() error {
	m.have, m.policy = nil, nil
	t := m.tables()
	var s State
	var errs [13]error
	endpoints, err := t.endpoints.load()
	errs[0] = err
	s.Endpoints = plain(endpoints)
	s.Bridges, errs[1] = t.bridges.load()
	s.Veths, errs[2] = t.veths.load()
	s.Uplinks, errs[3] = t.uplinks.load()
	s.HostAddrs, errs[4] = t.hostAddrs.load()
	s.Subnets, errs[5] = t.subnets.load()
	s.Publish, errs[6] = t.publish.load()
	s.Peers, errs[7] = t.peers.load()
	s.PeerHosts, errs[8] = t.peerHosts.load()
	var overlay map[uint32]bpf.Overlay
	overlay, errs[9] = t.overlay.load()
	s.Overlay = overlay[0]
	var cfg bpf.Config
	cfg, errs[10] = m.config()
	s.NextID = cfg.NextId
	s.PublishFrom, errs[11] = t.from.load()
	m.policy, errs[12] = m.loadPolicy(endpoints)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	s.Policy = m.policy.inSet(cfg.PolicySet % bpf.PolicySets)
	m.have = &s
	return nil
}

// Sync makes the maps what want says, writes nothing where they are that already, and keeps want, which must not be changed afterwards. At
// every moment a packet finds a set that agrees with itself: what is referred to comes before what refers to it, and goes after it. Flows
// that were decided in between are decided again, since the epoch moves last.
//
// After an error, which may be a *FullError, as much as possible is written, and the next Sync looks at the kernel again.
func (m *Maps) Sync(want State) (Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sync(want)
}

// Resync is Sync that believes nothing about what the maps hold: it repairs what somebody else changed.
func (m *Maps) Resync(want State) (Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.have, m.policy, m.counted = nil, nil, nil
	return m.sync(want)
}

func (m *Maps) sync(want State) (Changes, error) {
	if m.have == nil || m.policy == nil {
		if err := m.load(); err != nil {
			return Changes{}, err
		}
	}
	have := m.have
	if want.NextID == 0 {
		want.NextID = have.NextID
	}
	m.have = nil // not known until all is written
	cfg, err := m.config()
	if err != nil {
		return Changes{}, err
	}
	// Whoever comes after a crash must not give an id that stands in a flow to somebody else.
	if cfg.NextId != want.NextID {
		cfg.NextId = want.NextID
		if err := m.setConfig(cfg); err != nil {
			return Changes{}, err
		}
	}
	var changes Changes
	var errs []error
	changed, err := m.syncPolicy(want, &cfg)
	changes.Tables = append(changes.Tables, changed...)
	errs = append(errs, err)
	written := err == nil
	changes.Epoch = cfg.Epoch
	t := m.tables()
	var held map[bpf.AddrKey]bpf.Endpoint
	if m.policy != nil {
		held = m.policy.endpoints
	} else if held, err = t.endpoints.load(); err != nil {
		return changes, errors.Join(append(errs, err)...)
	}
	endpoints := withIdents(want, held, cfg.PolicySet, written)
	publish := diff(t.publish, have.Publish, want.Publish)
	rest := []writer{
		diff(t.bridges, have.Bridges, want.Bridges),
		diff(t.subnets, have.Subnets, want.Subnets),
		diff(t.hostAddrs, have.HostAddrs, want.HostAddrs),
		diff(t.uplinks, have.Uplinks, want.Uplinks),
		diff(t.endpoints, held, endpoints),
		diff(t.veths, have.Veths, want.Veths),
		diff(t.overlay, overlayEntries(have.Overlay), overlayEntries(want.Overlay)),
		diff(t.peerHosts, have.PeerHosts, want.PeerHosts),
		diff(t.peers, have.Peers, want.Peers),
		diff(t.from, have.PublishFrom, want.PublishFrom),
	}
	for _, w := range rest {
		errs = append(errs, w.put())
	}
	errs = append(errs, publish.delete(), publish.put())
	for i := len(rest) - 1; i >= 0; i-- {
		errs = append(errs, rest[i].delete())
	}
	for _, w := range append(rest, publish) {
		if c := w.counted(); c.Added+c.Changed+c.Deleted > 0 {
			changes.Tables = append(changes.Tables, c)
		}
	}
	if changes.Any() {
		cfg.Epoch = nextEpoch(cfg.Epoch)
		changes.Epoch = cfg.Epoch
		errs = append(errs, m.setConfig(cfg))
	}
	if err := errors.Join(errs...); err != nil {
		m.policy = nil
		return changes, err
	}
	m.have, m.policy.endpoints = &want, endpoints
	return changes, nil
}

// nextEpoch skips 0, the epoch of maps that nobody has written yet.
func nextEpoch(epoch uint32) uint32 {
	return max(epoch+1, 1)
}
