package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// overlay L1, overlay L2, overlay C2: a host waits for the configuration, takes a subnet under a lease, and has it again after a restart
// without a write that would wake the others.
func TestJoin(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	o := s.options(1)
	h := s.host(o)
	until(t, "waiting", func() bool { return h.View().State == Waiting })
	s.put("config", sixteenVXLAN)
	subnet := h.untilJoined(t)
	if !h.network.Fits(subnet) {
		t.Errorf("%s does not fit", subnet)
	}
	e, ok := s.subnets()[overlay.SubnetKey(subnet)]
	if !ok {
		t.Fatalf("no record: %v", s.subnets())
	}
	r, err := e.Record()
	if err != nil || r.PublicIP != o.Public || r.VNI != 1 || r.MAC.String() != overlay.DerivedMAC(o.Public).String() || r.Node == "" {
		t.Errorf("record %+v %v", r, err)
	}
	ttl, err := s.c.TimeToLive(context.Background(), e.lease)
	if err != nil || ttl.GrantedTTL != 10 {
		t.Errorf("lease %+v %v", ttl, err)
	}
	for range 3 {
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		h = s.host(o)
		if again := h.untilJoined(t); again != subnet {
			t.Fatalf("%s after the restart, had %s", again, subnet)
		}
		now := s.subnets()[overlay.SubnetKey(subnet)]
		if now.modified != e.modified || now.lease != e.lease {
			t.Errorf("written again: revision %d, was %d", now.modified, e.modified)
		}
	}
}

// overlay L4: a record outlives many of its lease's times, and the others hear nothing of it.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	o.TTL, o.Margin = 2*time.Second, time.Second
	h := s.host(o)
	subnet := h.untilJoined(t)
	e := s.subnets()[overlay.SubnetKey(subnet)]
	until(t, "renewals over three lease times", func() bool { return h.Counts().Renewals >= 9 })
	now := s.subnets()[overlay.SubnetKey(subnet)]
	if now.modified != e.modified || now.lease != e.lease {
		t.Errorf("the record was written: %+v, was %+v", now, e)
	}
}

// overlay L5: the others forget a host that is gone, when its lease ends, and nobody else.
func TestDeadHost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	o.TTL, o.Margin = 2*time.Second, time.Second
	dead, alive, watcher := s.host(o), s.host(s.options(2)), s.host(s.options(3))
	dead.untilJoined(t)
	stays := alive.untilJoined(t)
	watcher.untilPeers(t, 2)
	if err := dead.stop(); err != nil {
		t.Fatal(err)
	}
	watcher.untilPeers(t, 1)
	if got := watcher.View().Peers[0].Subnet; got != stays {
		t.Errorf("%s is left, want %s", got, stays)
	}
}

// overlay L6, overlay E4: the record is put back for the same subnet when it was deleted, when its lease was revoked, and when the whole
// store has forgotten.
func TestLostRecord(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	h, other := s.host(s.options(1)), s.host(s.options(2))
	subnet, others := h.untilJoined(t), other.untilJoined(t)
	key := overlay.SubnetKey(subnet)
	back := func(what string) {
		t.Helper()
		until(t, what, func() bool { _, ok := s.subnets()[key]; return ok })
		h.untilJoined(t)
		if h.View().Subnet != subnet {
			t.Errorf("%s: now %s, had %s", what, h.View().Subnet, subnet)
		}
	}
	s.delete("subnets/" + key)
	back("deleted")
	if _, err := s.c.Revoke(context.Background(), s.subnets()[key].lease); err != nil {
		t.Fatal(err)
	}
	back("revoked")

	s.stop()
	until(t, "the outage is seen", func() bool { return !h.View().Connected && !other.View().Connected })
	if v := h.View(); v.Subnet != subnet || len(v.Peers) != 1 || v.Problem == "" {
		t.Errorf("during the outage: %+v", v)
	}
	s.wipe()
	s.start()
	until(t, "both records are back", func() bool {
		all := s.subnets()
		_, mine := all[key]
		_, theirs := all[overlay.SubnetKey(others)]
		return mine && theirs && len(all) == 2
	})
	h.untilPeers(t, 1)
}

// overlay L6, overlay L9: what another host has taken meanwhile is not taken from it.
func TestTakenByAnother(t *testing.T) {
	for _, renumber := range []bool{false, true} {
		t.Run(fmt.Sprintf("renumber %v", renumber), func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			s.put("config", sixteenVXLAN)
			o := s.options(1)
			o.Renumber = renumber
			h := s.host(o)
			subnet := h.untilJoined(t)
			key := overlay.SubnetKey(subnet)
			theirs := overlay.Record{PublicIP: netip.MustParseAddr("198.18.9.9"), Kind: overlay.VXLAN, VNI: 1,
				MAC: overlay.DerivedMAC(netip.MustParseAddr("198.18.9.9"))}
			value, err := theirs.Encode()
			if err != nil {
				t.Fatal(err)
			}
			s.put("subnets/"+key, string(value))
			if renumber {
				until(t, "another subnet", func() bool { v := h.View(); return v.State == Joined && v.Subnet != subnet })
			} else {
				until(t, "the loss is seen", func() bool { return h.View().State == Lost })
				if v := h.View(); v.Subnet != subnet || !strings.Contains(v.Problem, "another host holds") {
					t.Errorf("%+v", v)
				}
			}
			if got := s.subnets()[key]; string(got.Value) != string(value) {
				t.Errorf("it was overwritten by %s", got.Value)
			}
			s.delete("subnets/" + key)
			if !renumber {
				until(t, "it is free again", func() bool { return h.View().State == Joined && h.View().Subnet == subnet })
			}
		})
	}
}

// overlay L7: twenty hosts that want the only twenty subnets at once get one each.
func TestRace(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for trial := range 5 {
		s.put("config", `{"Network":"10.200.0.0/16","SubnetMin":"10.200.1.0","SubnetMax":"10.200.20.0","Backend":{"Type":"vxlan"}}`)
		var hosts []*host
		for i := range 20 {
			hosts = append(hosts, s.host(s.options(100*trial+i+1)))
		}
		seen := map[netip.Prefix]bool{}
		for _, h := range hosts {
			seen[h.untilJoined(t)] = true
		}
		if len(seen) != 20 {
			t.Fatalf("trial %d: %d subnets for 20 hosts", trial, len(seen))
		}
		for _, h := range hosts {
			if err := h.stop(); err != nil {
				t.Fatal(err)
			}
		}
		for key := range s.subnets() {
			s.delete("subnets/" + key)
		}
	}
}

// overlay L8: where nothing is free a host waits, and says so, until something is.
func TestExhausted(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", `{"Network":"10.200.0.0/16","SubnetMin":"10.200.1.0","SubnetMax":"10.200.1.0","Backend":{"Type":"vxlan"}}`)
	first := s.host(s.options(1))
	subnet := first.untilJoined(t)
	second := s.host(s.options(2))
	until(t, "it seeks", func() bool { return second.View().State == Seeking })
	if v := second.View(); v.Subnet.IsValid() || !strings.Contains(v.Problem, "no subnet is free") {
		t.Errorf("%+v", v)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	s.delete("subnets/" + overlay.SubnetKey(subnet))
	if got := second.untilJoined(t); got != subnet {
		t.Errorf("%s, want %s", got, subnet)
	}
}

// overlay L10: a second host with the same address, or with a copy of the first one's disk, does not take part; the first is not hurt.
func TestClone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	o.LifeSign = 3 * time.Second
	first := s.host(o)
	subnet := first.untilJoined(t)
	before := s.subnets()[overlay.SubnetKey(subnet)]

	copied := s.options(2)
	copied.LifeSign = o.LifeSign
	copied.Session = "another boot"
	disk, err := os.ReadFile(o.Memory)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied.Memory, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	address := s.options(1)
	address.LifeSign = o.LifeSign
	for _, other := range []Options{copied, address} {
		m, err := New(other)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		if err := m.Run(ctx); !errors.Is(err, errClash) {
			t.Errorf("it takes part: %v", err)
		}
		cancel()
	}
	if now := s.subnets(); len(now) != 1 || now[overlay.SubnetKey(subnet)].modified != before.modified {
		t.Errorf("the first one is hurt: %v", now)
	}
}

// overlay L11: a record without a lease stays without one, and nobody else takes its subnet.
func TestReservation(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", `{"Network":"10.200.0.0/16","SubnetMin":"10.200.1.0","SubnetMax":"10.200.2.0","Backend":{"Type":"vxlan"}}`)
	reserve := func(key string, n int) {
		a := netip.AddrFrom4([4]byte{198, 18, 0, byte(n)})
		r := overlay.Record{PublicIP: a, Kind: overlay.VXLAN, VNI: 1, MAC: overlay.DerivedMAC(a)}
		value, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.put("subnets/"+key, string(value))
	}
	reserve("10.200.1.0-24", 1)
	reserve("10.200.77.0-24", 2) // outside what is given out
	for n, want := range map[int]string{1: "10.200.1.0/24", 2: "10.200.77.0/24", 3: "10.200.2.0/24"} {
		o := s.options(n)
		for range 2 {
			h := s.host(o)
			if got := h.untilJoined(t); got.String() != want {
				t.Errorf("host %d: %s, want %s", n, got, want)
			}
			if e := s.subnets()[overlay.SubnetKey(netip.MustParsePrefix(want))]; (e.lease == clientv3.NoLease) != (n < 3) {
				t.Errorf("host %d: lease %d", n, e.lease)
			}
			if err := h.stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// overlay L12, overlay L3: a host that comes back under another address keeps its subnet and the tunnel endpoint's address, in one write.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	h, watcher := s.host(o), s.host(s.options(2))
	subnet := h.untilJoined(t)
	watcher.untilPeers(t, 1)
	mac := watcher.View().Peers[0].MAC.String()
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	o.Public = netip.MustParseAddr("198.18.0.77")
	h = s.host(o)
	if got := h.untilJoined(t); got != subnet {
		t.Errorf("%s, had %s", got, subnet)
	}
	until(t, "the other host knows", func() bool {
		p := watcher.View().Peers
		return len(p) == 1 && p[0].Public == o.Public && p[0].Subnet == subnet && p[0].MAC.String() == mac
	})
}

// A host that flannel ran on keeps its subnet and the address that its peers know.
func TestAfterFlannel(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	s.put("subnets/10.200.37.0-24", `{"PublicIP":"198.18.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"22:5a:51:d6:4d:2d"}}`)
	h := s.host(s.options(1))
	if got := h.untilJoined(t); got.String() != "10.200.37.0/24" || h.View().MAC.String() != "22:5a:51:d6:4d:2d" {
		t.Errorf("%s %s", got, h.View().MAC)
	}
}

// overlay E6: it ends at once in every phase.
func TestEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ends := func(phase string, h *host) {
		t.Helper()
		began := time.Now()
		if err := h.stop(); err != nil {
			t.Errorf("%s: %v", phase, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %v", phase, took)
		}
	}
	h := s.host(s.options(1))
	until(t, "waiting", func() bool { return h.View().State == Waiting })
	ends("waiting for the configuration", h)
	s.put("config", sixteenVXLAN)
	h = s.host(s.options(1))
	h.untilJoined(t)
	ends("joined", h)
	ends("just started", s.host(s.options(2)))
	s.stop()
	h = s.host(s.options(3))
	until(t, "the outage is seen", func() bool { return h.Counts().Errors > 0 })
	ends("etcd is away", h)
	h = s.host(s.options(3))
	ends("in the first request", h)
}
