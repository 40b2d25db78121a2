package lease

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

func peerValue(t testing.TB, public string, mac string) string {
	t.Helper()
	return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":%q}}`, public, mac)
}

// overlay W1: what changed while the watch was cut, and was compacted away, is made up for: an added, a changed and a removed peer.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.7", "22:5a:51:d6:4d:07"))
	s.put("subnets/10.200.8.0-24", peerValue(t, "198.18.0.8", "22:5a:51:d6:4d:08"))
	gate := newGate(t, s.client)
	o := s.options(1)
	o.Etcd.Endpoints = []string{gate.url()}
	h := s.host(o)
	h.untilJoined(t)
	h.untilPeers(t, 2)
	gate.shut()
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.77", "22:5a:51:d6:4d:77"))
	s.delete("subnets/10.200.8.0-24")
	s.put("subnets/10.200.9.0-24", peerValue(t, "198.18.0.9", "22:5a:51:d6:4d:09"))
	r, err := s.c.Get(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.c.Compact(context.Background(), r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	until(t, "the cut is seen", func() bool { return !h.View().Connected })
	gate.open()
	until(t, "all three changes", func() bool {
		p := h.View().Peers
		return len(p) == 2 && p[0].Public == netip.MustParseAddr("198.18.0.77") && p[0].MAC.String() == "22:5a:51:d6:4d:77" &&
			p[1].Public == netip.MustParseAddr("198.18.0.9")
	})
}

// overlay W2: while etcd is away a host asks no more than about once a second, and logs one line.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	var log lines
	o.Log = log.logger()
	h := s.host(o)
	h.untilJoined(t)
	s.stop()
	until(t, "the outage is seen", func() bool { return !h.View().Connected })
	errors, said := h.Counts().Errors, log.count()
	began := time.Now()
	until(t, "some attempts", func() bool { return h.Counts().Errors >= errors+2 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("two attempts in %v", took)
	}
	if more := log.count() - said; more > 3 {
		t.Errorf("%d lines more in the log: %s", more, log.String())
	}
	s.start()
	h.untilJoined(t)
}

// overlay W4: a broken record delays nobody, is logged once and counted.
func TestBrokenRecords(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	o := s.options(1)
	var log lines
	o.Log = log.logger()
	h := s.host(o)
	h.untilJoined(t)
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.7", "22:5a:51:d6:4d:07"))
	h.untilPeers(t, 1)
	for i, bad := range []string{"", "x", "{}", "[]", `{"PublicIP":"198.18.0.8","BackendType":"vxlan","BackendData":7}`} {
		s.put(fmt.Sprintf("subnets/10.200.%d.0-24", 100+i), bad)
	}
	s.put("subnets/0.0.0.0-0", peerValue(t, "198.18.0.8", "22:5a:51:d6:4d:08"))
	s.put("subnets/garbage", "garbage")
	s.put("subnets/10.200.8.0-24", peerValue(t, "198.18.0.8", "22:5a:51:d6:4d:08"))
	h.untilPeers(t, 2)
	v := h.View()
	if v.State != Joined || v.Peers[0].Public.String() != "198.18.0.7" || len(v.Rejected) != 7 || h.Counts().Rejected != 7 {
		t.Errorf("%+v, counted %d", v, h.Counts().Rejected)
	}
	if n := strings.Count(log.String(), "10.200.101.0-24"); n != 1 {
		t.Errorf("one broken record is told %d times", n)
	}
}

// overlay L13: a host that takes over the subnet of a dead one is the only peer there.
func TestReusedSubnet(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	h := s.host(s.options(1))
	h.untilJoined(t)
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.7", "22:5a:51:d6:4d:07"))
	h.untilPeers(t, 1)
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.9", "22:5a:51:d6:4d:09"))
	until(t, "the new one", func() bool {
		p := h.View().Peers
		return len(p) == 1 && p[0].Public.String() == "198.18.0.9" && p[0].MAC.String() == "22:5a:51:d6:4d:09"
	})
}

// overlay E2: started while etcd is away, a host goes on with what it knew.
func TestStartWithoutEtcd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	s.put("subnets/10.200.7.0-24", peerValue(t, "198.18.0.7", "22:5a:51:d6:4d:07"))
	o := s.options(1)
	h := s.host(o)
	subnet := h.untilJoined(t)
	h.untilPeers(t, 1)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	h = s.host(o)
	v := h.View()
	if !v.Known() || v.Subnet != subnet || len(v.Peers) != 1 || v.Connected || v.State != Connecting {
		t.Errorf("%+v", v)
	}
}

// overlay C3: a configuration that changes under a running host is told of, and changes nothing.
func TestConfigurationChanges(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	h := s.host(s.options(1))
	subnet := h.untilJoined(t)
	s.put("config", `{"Network":"10.201.0.0/16","Backend":{"Type":"host-gw"}}`)
	until(t, "it is told", func() bool { return h.View().Restart })
	if v := h.View(); v.Subnet != subnet || v.Network.Kind != overlay.VXLAN || v.State != Joined {
		t.Errorf("%+v", v)
	}
	s.put("config", sixteenVXLAN+" ")
	until(t, "it is as it was", func() bool { return !h.View().Restart })
}

// overlay S1, overlay S3: ten thousand peers are read in one request; one more, and a thousand fewer, are seen at once.
func TestManyPeers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}`)
	ctx := context.Background()
	lease, err := s.c.Grant(ctx, 3600)
	if err != nil {
		t.Fatal(err)
	}
	const many, going = 10_000, 1_000
	var ops []clientv3.Op
	for i := range many {
		key := fmt.Sprintf("%s/subnets/10.%d.%d.0-24", DefaultPrefix, 100+i>>8, i&255)
		op := clientv3.OpPut(key, peerValue(t, fmt.Sprintf("198.19.%d.%d", i>>8, i&255), "22:5a:51:d6:4d:07"))
		if i < going {
			op = clientv3.OpPut(key, peerValue(t, fmt.Sprintf("198.19.%d.%d", i>>8, i&255), "22:5a:51:d6:4d:07"), clientv3.WithLease(lease.ID))
		}
		if ops = append(ops, op); len(ops) == 100 {
			if _, err := s.c.Txn(ctx).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	began := time.Now()
	h := s.host(s.options(1))
	h.untilPeers(t, many)
	t.Logf("%d peers after %v", many, time.Since(began))
	if lists := h.Counts().Lists; lists != 1 {
		t.Errorf("%d requests for the list", lists)
	}
	began = time.Now()
	s.put("subnets/10.99.1.0-24", peerValue(t, "198.18.0.9", "22:5a:51:d6:4d:09"))
	h.untilPeers(t, many+1)
	t.Logf("one more after %v", time.Since(began))
	began = time.Now()
	if _, err := s.c.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	h.untilPeers(t, many+1-going)
	t.Logf("%d fewer after %v", going, time.Since(began))
}
