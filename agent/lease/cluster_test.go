package lease

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// newCluster makes an etcd of three members.
func newCluster(t testing.TB) []*store {
	t.Helper()
	all := make([]*store, 3)
	var members []string
	for i := range all {
		all[i] = unstartedStore(t)
		all[i].name = fmt.Sprintf("m%d", i)
		members = append(members, all[i].name+"="+all[i].peer)
	}
	for _, s := range all {
		s.cluster = strings.Join(members, ",")
		s.start()
	}
	for _, s := range all {
		s.connect()
	}
	return all
}

// leader gives the member that leads.
func leader(t testing.TB, all []*store) *store {
	t.Helper()
	var found *store
	until(t, "a leader", func() bool {
		for _, s := range all {
			if s.cmd == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			r, err := s.c.Status(ctx, s.client)
			cancel()
			if err == nil && r.Leader != 0 && r.Header.MemberId == r.Leader {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// overlay W2: with three members neither the death of the one that leads, nor its return, nor another's death takes a peer away; what changes
// meanwhile is heard. With two of them dead what is known stays, and with them back it is kept up again.
func TestCluster(t *testing.T) {
	t.Parallel()
	all := newCluster(t)
	all[0].put("config", sixteenVXLAN)
	options := func(n int) Options {
		o := all[0].options(n)
		o.Etcd.Endpoints = nil
		for _, s := range all {
			o.Etcd.Endpoints = append(o.Etcd.Endpoints, s.client)
		}
		o.TTL = 60 * time.Second
		return o
	}
	a, b := all[0].host(options(1)), all[0].host(options(2))
	a.untilJoined(t)
	b.untilJoined(t)
	a.untilPeers(t, 1)

	// What a sees is looked at all the time: its peer may never go.
	fewest := make(chan int)
	stop := make(chan struct{})
	go func() {
		least := len(a.View().Peers)
		for {
			select {
			case <-stop:
				fewest <- least
				return
			case <-time.After(2 * time.Millisecond):
				least = min(least, len(a.View().Peers))
			}
		}
	}()
	var extra []*host
	join := func(when string) {
		t.Helper()
		began := time.Now()
		h := all[0].host(options(3 + len(extra)))
		extra = append(extra, h)
		h.untilJoined(t)
		a.untilPeers(t, 1+len(extra))
		t.Logf("%s: a host has joined and is known after %v", when, time.Since(began).Round(time.Millisecond))
	}
	first := leader(t, all)
	first.stop()
	leader(t, all)
	join("the leader is dead")
	first.start()
	leader(t, all)
	join("it is back")
	alive := slices.IndexFunc(all, func(s *store) bool { return s != leader(t, all) })
	all[alive].stop()
	join("another is dead")
	all[(alive+1)%3].stop()
	until(t, "the loss of the majority is seen", func() bool { return !a.View().Connected || a.View().Problem != "" })
	all[alive].start()
	all[(alive+1)%3].start()
	until(t, "etcd answers again", func() bool { return a.View().Connected && a.View().Problem == "" })
	join("all are back")
	close(stop)
	if least := <-fewest; least < 1 {
		t.Errorf("%d peers at a time", least)
	}
}

// overlay W3: a network that swallows everything without a word is noticed by the connection's life signs, and what happened behind it is known
// soon after it passes packets again.
func TestSilentCut(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	g := newGate(t, s.client)
	o := s.options(1)
	o.Etcd.Endpoints, o.TTL = []string{g.url()}, 120*time.Second
	h := s.host(o)
	h.untilJoined(t)
	g.shut()
	until(t, "the cut is seen", func() bool { return !h.View().Connected })
	s.put("subnets/10.200.9.0-24", peerValue(t, "198.18.0.9", "22:5a:51:d6:4d:09"))
	g.open()
	began := time.Now()
	h.untilPeers(t, 1)
	t.Logf("made up for %v after the cut", time.Since(began).Round(time.Millisecond))
}

// overlay E3: an etcd that is away for longer than the leases last takes nobody's subnet, whoever comes back first.
func TestAwayForLong(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", `{"Network":"10.200.0.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}`)
	var hosts []*host
	had := map[netip.Addr]netip.Prefix{}
	for n := 1; n <= 3; n++ {
		o := s.options(n)
		o.TTL, o.Margin = 3*time.Second, time.Second
		h := s.host(o)
		had[o.Public] = h.untilJoined(t)
		hosts = append(hosts, h)
	}
	// One of them is started anew while etcd is away.
	s.stop()
	if err := hosts[1].stop(); err != nil {
		t.Fatal(err)
	}
	hosts[1] = s.host(hosts[1].o)
	began := time.Now()
	until(t, "the leases would have ended twice", func() bool { return time.Since(began) > 6*time.Second })
	s.start()
	for _, h := range slices.Backward(hosts) {
		if now := h.untilJoined(t); now != had[h.o.Public] {
			t.Errorf("%s has %s, and had %s", h.o.Public, now, had[h.o.Public])
		}
		h.untilPeers(t, 2)
	}
}

// overlay S2: renewals of a thousand hosts are nothing that another host hears of: it reads nothing, and has nothing to put to work.
func TestRenewalsAreSilent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	h := s.host(s.options(1))
	h.untilJoined(t)
	const many = 1000
	ctx := context.Background()
	var leases []clientv3.LeaseID
	for i := range many {
		l, err := s.c.Grant(ctx, 60)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l.ID)
		key := fmt.Sprintf("%s/subnets/10.200.%d.%d-28", DefaultPrefix, 64+i>>4, i&15<<4)
		if _, err := s.c.Put(ctx, key, peerValue(t, fmt.Sprintf("198.19.%d.%d", i>>8, i&255), "22:5a:51:d6:4d:07"), clientv3.WithLease(l.ID)); err != nil {
			t.Fatal(err)
		}
	}
	h.untilPeers(t, many)
	for changed := true; changed; {
		select {
		case <-h.Changes():
		case <-time.After(time.Second):
			changed = false
		}
	}
	before, revision := h.Counts(), h.View().Revision
	for _, l := range leases {
		if _, err := s.c.KeepAliveOnce(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-h.Changes():
		t.Error("a renewal is told as a change")
	case <-time.After(time.Second):
	}
	if now := h.Counts(); now.Lists != before.Lists || now.Rejected != before.Rejected || h.View().Revision != revision {
		t.Errorf("%d renewals: %+v at revision %d, was %+v at %d", many, now, h.View().Revision, before, revision)
	}
	// flannel's hosts get another lease, and write what is there already.
	for i, l := range leases {
		key := fmt.Sprintf("%s/subnets/10.200.%d.%d-28", DefaultPrefix, 64+i>>4, i&15<<4)
		if _, err := s.c.Put(ctx, key, peerValue(t, fmt.Sprintf("198.19.%d.%d", i>>8, i&255), "22:5a:51:d6:4d:07"), clientv3.WithLease(leases[many-1-i])); err != nil {
			t.Fatal(l, err)
		}
	}
	select {
	case <-h.Changes():
		t.Error("a renewal of flannel's is told as a change")
	case <-time.After(time.Second):
	}
	// Something that is one comes through.
	s.put("subnets/10.200.64.0-28", peerValue(t, "198.19.255.1", "22:5a:51:d6:4d:07"))
	until(t, "a change", func() bool {
		return slices.ContainsFunc(h.View().Peers, func(p overlay.Peer) bool { return p.Public == netip.MustParseAddr("198.19.255.1") })
	})
}

// overlay S4: a host that joins, or comes back, has its subnet, and the others know of it, in a fraction of a second.
func TestJoinIsQuick(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	a := s.host(s.options(1))
	a.untilJoined(t)
	var joins, rejoins []time.Duration
	for n := range 20 {
		o := s.options(2 + n)
		began := time.Now()
		h := s.host(o)
		subnet := h.untilJoined(t)
		a.untilPeers(t, n+1)
		joins = append(joins, time.Since(began))
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		h = s.host(o)
		if again := h.untilJoined(t); again != subnet {
			t.Errorf("%s after it came back, had %s", again, subnet)
		}
		h.untilPeers(t, n+1)
		rejoins = append(rejoins, time.Since(began))
	}
	slices.Sort(joins)
	slices.Sort(rejoins)
	t.Logf("join: median %v, 19 of 20 within %v; rejoin: median %v, 19 of 20 within %v", joins[10], joins[18], rejoins[10], rejoins[18])
}
