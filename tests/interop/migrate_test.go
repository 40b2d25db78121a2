package interop

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// outage is for how long a host that moves over may be cut off from the others.
const outage = time.Second

// overlay I3: a host goes from flannel to the product and back, with its subnet and its containers, and nothing of either is left behind. On
// either way nobody is without an answer for longer than a second: the agent, and flanneld, are started beside what they follow.
func TestMigrate(t *testing.T) {
	for _, c := range []struct{ name, config string }{
		{"vxlan", `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`},
		{"host-gw", `{"Network":"10.200.0.0/16","Backend":{"Type":"host-gw"}}`},
		{"udp", `{"Network":"10.200.0.0/16","Backend":{"Type":"udp"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, c.config)
			n.join(t, "ffe")
			n.meet(t, "at first")
			s := n.sites[0]
			before := n.record(t, s)

			f := s.flannel
			s.member, s.flannel = f.As(t), nil
			over := n.beats(t, s)
			s.member.StartAgent(t)
			s.member.Loaded(t)
			if err := f.Stop(); err != nil {
				t.Fatal(err)
			}
			f.Forget(t)
			s.member.Attach(t, "--bridge", lab.Bridge)
			n.meet(t, "a host has gone over")
			over("to the product")
			n.sameSubnet(t, s, s.member.Subnet(t))
			if now := n.record(t, s); now.BackendData.VtepMAC != before.BackendData.VtepMAC || now.PublicIP != before.PublicIP {
				t.Errorf("the record says %+v, and said %+v", now, before)
			}

			over = n.beats(t, s)
			s.member.Instance.Run(t, "detach", "--all", "--yes")
			f.Start(t)
			if err := s.member.StopAgent(); err != nil {
				t.Fatal(err)
			}
			name := tunnel.DeviceName(s.member.Instance.Name, loader.DefaultInstance)
			for what, left := range map[string]string{
				"devices": s.NS.IP(t, "-brief link show"), "rules": s.NS.IP(t, "rule show"), "routes": s.NS.IP(t, "route show proto 0xeb"),
			} {
				if strings.Contains(left, name) || strings.Contains(left, tunnel.FarName(name)) || what == "routes" && left != "" {
					t.Errorf("%s that are left: %s", what, left)
				}
			}
			s.member, s.flannel = nil, f
			n.meet(t, "the host has gone back")
			over("to flannel")
			n.sameSubnet(t, s, f.Subnet(t))
			n.complaints(t)
		})
	}
}

// beats pings from a host's container to those of all others, and back, until it is told that the host has moved over.
func (n *network) beats(t *testing.T, s *site) (over func(where string)) {
	t.Helper()
	var all []*lab.Beat
	for i, other := range n.sites {
		if other != s {
			all = append(all, s.c.NS.Beat(t, 300+i, other.c.IP.String(), 10*time.Millisecond), other.c.NS.Beat(t, 400+i, s.c.IP.String(), 10*time.Millisecond))
		}
	}
	return func(where string) {
		t.Helper()
		longest := time.Duration(0)
		for _, b := range all {
			longest = max(longest, b.Outage(t))
		}
		t.Logf("%s: no answer for %v at most", where, longest.Round(time.Millisecond))
		if longest > outage {
			t.Errorf("%s: no answer for %v, want at most %v", where, longest.Round(time.Millisecond), outage)
		}
	}
}

// record is what etcd holds of a host.
func (n *network) record(t *testing.T, s *site) (r struct {
	PublicIP    string
	BackendData struct{ VtepMAC string }
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(n.segment.Record(t, s.subnet.String())), &r); err != nil {
		t.Fatalf("record of %s: %v", s, err)
	}
	return r
}

func (n *network) sameSubnet(t *testing.T, s *site, env map[string]string) {
	t.Helper()
	if got := netip.MustParsePrefix(env["FLANNEL_SUBNET"]).Masked(); got != s.subnet {
		t.Errorf("%s has %s now, and had %s", s, got, s.subnet)
	}
}

// A flannel host whose record is deleted is no peer from then on, and is one again when it comes back.
func TestRecordDeleted(t *testing.T) {
	n := newNetwork(t, `{"Network":"10.200.0.0/16","Backend":{"Type":"vxlan"}}`)
	n.join(t, "fe")
	n.meet(t, "at first")
	f, e := n.sites[0], n.sites[1]
	// Its own flanneld ends when its lease is gone, or takes it again; either way it is started anew.
	if err := f.flannel.Kill(); err != nil {
		t.Fatal(err)
	}
	n.segment.Etcdctl(t, "del", "/coreos.com/network/subnets/"+strings.ReplaceAll(f.subnet.String(), "/", "-"))
	lab.Eventually(t, settled, func() error {
		return absent(e.member.Instance.Run(t, "peer", "list"), f.subnet.String())
	})
	e.c.NS.Unanswered(t, "udp", f.c.At(80))
	f.flannel.Start(t)
	n.meet(t, "it is back")
	n.sameSubnet(t, f, f.flannel.Subnet(t))
}
