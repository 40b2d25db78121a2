package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// Options are what a member is told when it is made.
type Options struct {
	Etcd      Etcd
	Public    netip.Addr                   // where the other hosts reach this one
	Addresses func() ([]netip.Addr, error) // every address of this host
	Wanted    netip.Prefix                 // a subnet to take if it is free and nothing better is known
	Memory    string                       // file
	Session   string                       // see LoadSession
	TTL       time.Duration                // of the lease, in whole seconds
	Margin    time.Duration                // renew at the latest this long before the lease ends
	LifeSign  time.Duration                // how long the others believe that this host lives after its last sign; 0: 15 s
	Renumber  bool                         // take another subnet where another host has taken this one's
	Log       *slog.Logger
}

// Validate tells what of the options cannot be.
func (o *Options) Validate() error {
	if o.TTL < 2*time.Second || o.TTL%time.Second != 0 {
		return fmt.Errorf("lease time %v: whole seconds, at least 2s", o.TTL)
	}
	if o.Margin < 0 || o.Margin >= o.TTL {
		return fmt.Errorf("renewal margin %v: less than the lease time %v", o.Margin, o.TTL)
	}
	return o.Etcd.Validate()
}

// Member is a host in a network. Its fields up to the view belong to Run.
type Member struct {
	o      Options
	log    *slog.Logger
	memory Memory
	mac    net.HardwareAddr

	config   []byte // as stored; nil: not there
	network  overlay.Network
	entries  map[string]entry // below subnets, by the key's last element
	verdict  verdict          // on the entries
	nodes    map[string]alive // by id
	revision int64            // of the store, that all of this is from
	cluster  uint64
	lease    clientv3.LeaseID // of the host's own record; 0: none, or a reservation
	living   clientv3.LeaseID // of the life sign; 0: none yet
	state    State
	restart  bool
	clash    time.Time // since when another seems to be this host; zero: none does
	warned   map[string]string
	dirty    bool // the memory is to be saved
	saving   sync.WaitGroup
	idle     atomic.Bool // nothing is being saved

	view    atomic.Pointer[View]
	changes chan struct{}
	errs    atomic.Uint64
	lists   atomic.Uint64
	renewed atomic.Uint64
	refused atomic.Uint64
}

// entry is a record as it stands in etcd.
type entry struct {
	overlay.Entry
	modified int64
	lease    clientv3.LeaseID
}

// alive is a node's life sign.
type alive struct {
	Session string     `json:"session"`
	Public  netip.Addr `json:"public"`
}

// New makes a member, and shows what it remembers.
func New(o Options) (*Member, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.LifeSign == 0 {
		o.LifeSign = livingTTL
	}
	// Files that are not there now are a mistake, and not etcd's absence.
	if _, err := o.Etcd.tls(); err != nil {
		return nil, err
	}
	memory, err := LoadMemory(o.Memory)
	if err != nil {
		return nil, err
	}
	m := &Member{o: o, log: o.Log, memory: memory, mac: memory.mac(), state: Connecting, changes: make(chan struct{}, 1),
		entries: map[string]entry{}, nodes: map[string]alive{}, warned: map[string]string{}}
	m.idle.Store(true)
	if m.mac == nil {
		m.mac = overlay.DerivedMAC(o.Public)
	}
	if len(memory.Network) > 0 {
		m.config = memory.Network
		if m.network, err = overlay.ParseNetwork(memory.Network); err != nil {
			return nil, fmt.Errorf("overlay state %s: %w", o.Memory, err)
		}
	}
	for _, e := range memory.Entries {
		m.entries[e.Key] = entry{Entry: overlay.NewEntry(e.Key, e.Value, e.Created)}
	}
	m.publish("", false)
	return m, nil
}

// View is what the member knows.
func (m *Member) View() *View { return m.view.Load() }

// Changes gives a value when the view has changed.
func (m *Member) Changes() <-chan struct{} { return m.changes }

// Counts gives the counters.
func (m *Member) Counts() Counts {
	return Counts{Errors: m.errs.Load(), Lists: m.lists.Load(), Renewals: m.renewed.Load(), Rejected: m.refused.Load()}
}

// errClash ends a member: another host is this one already.
var errClash = errors.New("another host is this one")

// Times of the run.
const (
	requestTimeout = 3 * time.Second
	listTimeout    = 5 * time.Second
	pulseEvery     = 4 * time.Second
	silence        = 3 * pulseEvery   // a watch that says nothing for so long is broken
	livingTTL      = 15 * time.Second // of the life sign, where the options do not say otherwise
	saveEvery      = time.Second
	firstDelay     = 100 * time.Millisecond
	lastDelay      = time.Second
)

// Run follows etcd until ctx ends. An error means that this host must not take part: another one with its id or its address is alive.
func (m *Member) Run(ctx context.Context) error {
	var client *clientv3.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	defer m.saveLast()
	delay := firstDelay
	for ctx.Err() == nil {
		began := time.Now()
		var err error
		// Where there is a user it is asked for a token at once, which an etcd that is away does not give.
		if client == nil {
			client, err = m.o.Etcd.dial()
		}
		if err == nil {
			err = m.follow(ctx, client)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errClash):
			return err
		case err != nil:
			m.trouble(m.o.Etcd.explain(ctx, err))
		}
		if time.Since(began) > lastDelay {
			delay = firstDelay
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, lastDelay)
	}
	return nil
}

// trouble counts and shows what etcd did not do. A lasting one is logged once.
func (m *Member) trouble(err error) {
	m.errs.Add(1)
	m.warn("etcd", err.Error())
	m.publish("etcd: "+err.Error(), false)
}

// warn logs a line about a thing once, until it changes or clear is told that it is over.
func (m *Member) warn(thing, what string) {
	if m.warned[thing] != what {
		m.warned[thing] = what
		m.log.Warn("overlay", "what", thing, "problem", what)
	}
}

func (m *Member) clear(thing string) {
	if _, was := m.warned[thing]; was {
		delete(m.warned, thing)
		m.log.Info("overlay", "what", thing, "problem", "over")
	}
}

// follow reads everything, and then what changes, until something breaks.
func (m *Member) follow(ctx context.Context, c *clientv3.Client) error {
	if err := m.list(ctx, c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	watch := c.Watch(ctx, m.o.Etcd.Prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(m.revision+1))
	pulse := time.NewTicker(min(pulseEvery, m.o.LifeSign/3))
	defer pulse.Stop()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	renew := time.NewTicker(m.renewEvery())
	defer renew.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			wait, err := m.settle(ctx, c)
			if err != nil {
				return err
			}
			again.Reset(wait)
		case r, ok := <-watch:
			if !ok {
				return errors.New("the watch has ended")
			}
			if err := r.Err(); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			heard = time.Now()
			if m.apply(&r) {
				again.Reset(0)
			}
		case <-pulse.C:
			if time.Since(heard) > silence {
				return errors.New("the watch is silent")
			}
			if err := m.pulse(ctx, c); err != nil {
				return err
			}
		case <-renew.C:
			if err := m.renew(ctx, c); err != nil {
				return err
			}
		case <-save.C:
			m.save()
		}
	}
}

// renewEvery is well before the lease ends, so that a renewal may fail more than once.
func (m *Member) renewEvery() time.Duration { return min(m.o.TTL/3, m.o.TTL-m.o.Margin) }

// publish makes a new view of what is known.
func (m *Member) publish(problem string, connected bool) {
	v := &View{
		State: m.state, Connected: connected, Problem: problem, Network: m.network, Subnet: m.memory.Subnet, Public: m.o.Public, MAC: m.mac,
		Revision: m.revision, Restart: m.restart,
	}
	if m.network.Prefix.IsValid() {
		v.Peers, v.Rejected = m.accepted()
		if m.network.IPv6 {
			v.Notes = append(v.Notes, "the network has IPv6 too, which is not carried")
		}
	}
	if m.restart {
		v.Notes = append(v.Notes, "the network's configuration has changed: restart the agent to take it up")
	}
	before := m.view.Swap(v)
	m.tell(before, v)
	if before != nil && before.alike(v) {
		return
	}
	select {
	case m.changes <- struct{}{}:
	default:
	}
}

// verdict is which records make a peer, as it was found last.
type verdict struct {
	of       overlay.Network
	self     overlay.Self
	peers    []overlay.Peer
	rejected []overlay.Rejected
	holds    bool // no record has changed since
}

// accepted tells which records make a peer. All of them are looked at only when one has changed.
func (m *Member) accepted() ([]overlay.Peer, []overlay.Rejected) {
	self := m.self()
	v := &m.verdict
	if !v.holds || v.of != m.network || v.self.Subnet != self.Subnet || !slices.Equal(v.self.Public, self.Public) {
		v.of, v.self, v.holds = m.network, self, true
		v.peers, v.rejected = m.network.Accept(m.others(), self)
	}
	return v.peers, v.rejected
}

// self is what the others' records are held against.
func (m *Member) self() overlay.Self {
	s := overlay.Self{Subnet: m.memory.Subnet, Public: []netip.Addr{m.o.Public}}
	if m.o.Addresses == nil {
		return s
	}
	all, err := m.o.Addresses()
	if err != nil {
		m.warn("addresses", err.Error())
		return s
	}
	s.Public = append(s.Public, all...)
	return s
}

// others are the records below subnets.
func (m *Member) others() []overlay.Entry {
	all := make([]overlay.Entry, 0, len(m.entries))
	for _, e := range m.entries {
		all = append(all, e.Entry)
	}
	return all
}

// tell logs what has changed from one view to the next.
func (m *Member) tell(old, now *View) {
	if old == nil {
		return
	}
	if old.State != now.State || old.Subnet != now.Subnet {
		m.log.Info("overlay", "state", now.State, "subnet", now.Subnet, "peers", len(now.Peers))
	}
	if len(old.Peers) != len(now.Peers) {
		m.log.Info("overlay peers", "before", len(old.Peers), "now", len(now.Peers))
	}
	bad := map[string]bool{}
	for _, r := range now.Rejected {
		bad["record "+r.Key] = true
		if m.warned["record "+r.Key] != r.Why.Error() {
			m.refused.Add(1)
			m.warn("record "+r.Key, r.Why.Error())
		}
	}
	for _, r := range old.Rejected {
		if !bad["record "+r.Key] {
			m.clear("record " + r.Key)
		}
	}
}

// save writes the memory where something in it has changed, aside: thousands of peers take a while, and others change meanwhile.
func (m *Member) save() {
	if !m.dirty || !m.idle.CompareAndSwap(true, false) {
		return
	}
	m.dirty = false
	memory := m.memory
	memory.MAC, memory.Network, memory.Entries = m.mac.String(), m.config, m.others()
	m.saving.Add(1)
	go func() {
		defer m.saving.Done()
		defer m.idle.Store(true)
		if err := memory.save(m.o.Memory); err != nil {
			m.log.Error("overlay", "what", "memory", "problem", err)
		}
	}()
}

// saveLast writes what is left, before Run ends.
func (m *Member) saveLast() {
	m.saving.Wait()
	m.save()
	m.saving.Wait()
}
