package maps

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// timeouts that are told apart by their number.
func testConfig() bpf.Config {
	return bpf.Config{TcpEstablished: 5000, TcpHandshake: 600, TcpClosing: 700, TcpClosed: 80, UdpNew: 300, UdpStream: 1800, Icmp: 310, Generic: 6000}
}

func TestFlowState(t *testing.T) {
	const (
		answered = bpf.DatapathFlowFlagFLOW_ANSWERED
		syn      = bpf.DatapathTcpSeenTCP_SYN
		synAck   = bpf.DatapathTcpSeenTCP_SYN_REPLY
		fin      = bpf.DatapathTcpSeenTCP_FIN
		finAck   = bpf.DatapathTcpSeenTCP_FIN_REPLY
		rst      = bpf.DatapathTcpSeenTCP_RST
	)
	cfg := testConfig()
	for _, tc := range []struct {
		name    string
		proto   uint8
		flags   bpf.FlowFlag
		tcp     bpf.TCPSeen
		fresh   bool
		state   string
		timeout uint32
	}{
		{"syn", 6, 0, syn, true, "syn_sent", 600},
		{"syn and syn-ack", 6, answered, syn | synAck, true, "syn_received", 600},
		{"handshake done", 6, answered, syn | synAck, false, "established", 5000},
		{"met in the middle", 6, 0, 0, true, "new", 600},
		{"met in the middle and answered", 6, answered, 0, true, "established", 5000},
		{"met in the middle and confirmed", 6, answered, 0, false, "established", 5000},
		{"originator is done", 6, answered, syn | synAck | fin, false, "fin_wait", 700}, // F-6
		{"the other is done", 6, answered, syn | synAck | finAck, false, "fin_wait", 700},
		{"both are done", 6, answered, syn | synAck | fin | finAck, false, "closing", 80},
		{"reset", 6, answered, syn | synAck | rst, false, "closed", 80},
		{"refused", 6, answered, syn | rst, true, "closed", 80},
		{"reset after one is done", 6, answered, syn | synAck | fin | rst, false, "closed", 80},
		{"udp question", 17, 0, 0, true, "new", 300},
		{"udp question and answer", 17, answered, 0, true, "answered", 300},
		{"udp stream", 17, answered, 0, false, "answered", 1800},
		{"echo", 1, 0, 0, true, "new", 310},
		{"echo answered", 1, answered, 0, false, "answered", 310},
		{"sctp", 132, answered, 0, false, "answered", 6000},
		{"gre", 47, 0, 0, true, "new", 6000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state, timeout := FlowState(tc.proto, tc.flags, tc.tcp, tc.fresh, &cfg)
			if state != tc.state || timeout != tc.timeout {
				t.Errorf("%s %d, want %s %d", state, timeout, tc.state, tc.timeout)
			}
		})
	}
}

func TestTicksSince(t *testing.T) {
	for _, tc := range []struct{ now, then, want uint32 }{
		{100, 40, 60}, {100, 100, 0}, {100, 101, 0}, {5, 0xfffffff0, 21}, {0x80000000, 1, 0x7fffffff}, {0xfffffff0, 5, 0},
	} {
		if got := TicksSince(tc.now, tc.then); got != tc.want {
			t.Errorf("TicksSince(%#x, %#x) = %d, want %d", tc.now, tc.then, got, tc.want)
		}
	}
}

// seen sets the tick of the last packet in both entries.
func seen(tick uint32, entries ...*entry) {
	for _, e := range entries {
		e.flow.Seen = tick
	}
}

func TestExpire(t *testing.T) {
	for _, now := range []uint32{1_000_000, 100, 0xffffffff} { // ticks wrap
		m, o := newMaps(t, map[string]uint32{bpf.DatapathMapFlows4: 8192})
		idle, idleReply := masqueraded(1)
		seen(now-5001, &idle, &idleReply)
		live, liveReply := masqueraded(2)
		seen(now-5000, &live, &liveReply)
		ahead, aheadReply := masqueraded(3) // a packet came while the clock was read
		seen(now+1, &ahead, &aheadReply)
		oneSided, oneSidedReply := masqueraded(4) // one entry was not told of the last packet yet
		seen(now-9000, &oneSided)
		seen(now-10, &oneSidedReply)
		half, _ := masqueraded(5)
		seen(now-9000, &half)
		_, orphan := masqueraded(6)
		seen(now-9000, &orphan)
		robbed, _ := masqueraded(8) // the tuple of its answers belongs to another flow, which is in use
		seen(now-9000, &robbed)
		robber, robberReply := newFlow(6, "172.17.0.9", "198.51.100.1", 8, 443, local, "192.0.2.10", "198.51.100.1", 8, 443, wire)
		seen(now, &robber, &robberReply)
		put(t, o.Flows4, robbed, robber, robberReply)
		put(t, o.Flows4, idle, idleReply, live, liveReply, ahead, aheadReply, oneSided, oneSidedReply, half, orphan)

		asked, askedReply := newFlow(17, "172.17.0.2", "198.51.100.1", 53, 53, local, "192.0.2.10", "198.51.100.1", 53, 53, wire)
		seen(now-301, &asked, &askedReply)
		syn, synReply := masqueraded(7)
		syn.flow.Tcp, synReply.flow.Tcp = bpf.DatapathTcpSeenTCP_SYN, bpf.DatapathTcpSeenTCP_SYN
		seen(now-600, &syn, &synReply)
		put(t, o.Flows4New, asked, askedReply, syn, synReply)

		s, err := m.Expire(now, testConfig())
		if err != nil {
			t.Fatal(err)
		}
		want := Sweep{
			Deleted: 5,
			Causes:  []FlowCount{{6, "established", 4}, {17, "new", 1}},
			Flows:   []FlowCount{{6, "established", 4}, {6, "syn_sent", 1}},
			Fill:    []Fill{{bpf.DatapathMapFlows4New, 4, 4096}, {bpf.DatapathMapFlows4, s.Fill[1].Entries, 8192}},
		}
		if diff := cmp.Diff(want, s); diff != "" {
			t.Errorf("now %d (-want +got)\n%s", now, diff)
		}
		for _, e := range []entry{live, liveReply, ahead, aheadReply, oneSided, oneSidedReply, syn, synReply, robber, robberReply} {
			if !has(t, m, e) {
				t.Errorf("now %d: port %d is gone", now, bpf.ToPort(e.key.Sport))
			}
		}
		for _, e := range []entry{idle, idleReply, half, orphan, asked, askedReply, robbed} {
			if has(t, m, e) {
				t.Errorf("now %d: port %d is still there", now, bpf.ToPort(e.key.Sport))
			}
		}
	}
}

// F-5: a flow that is used while it is being deleted keeps an entry that makes the other anew.
func TestExpireRechecks(t *testing.T) {
	const now = 100_000
	m, o := newMaps(t, nil)
	orig, reply := masqueraded(1)
	anything := func(*bpf.FlowKey, *bpf.Flow) bool { return true }
	touch := func(e entry) {
		e.flow.Seen = now
		put(t, o.Flows4, e)
	}
	for _, tc := range []struct {
		name        string
		by          entry
		touch       func(look int) // before each look at an entry
		orig, reply bool           // left
	}{
		{"not used", orig, func(int) {}, false, false},
		{"not used, found by the reply", reply, func(int) {}, false, false},
		{"used since it was found", orig, func(look int) {
			if look == 0 {
				touch(orig)
			}
		}, true, true},
		{"used by the reply since it was found", orig, func(look int) {
			if look == 0 {
				touch(reply)
			}
		}, true, true},
		{"used by the reply after the originator's entry has gone", orig, func(look int) {
			if look == 2 {
				touch(reply)
			}
		}, false, true},
		{"the same, found by the reply", reply, func(look int) {
			if look == 2 {
				touch(reply)
			}
		}, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			put(t, o.Flows4, orig, reply)
			tc.touch(0)
			look := 0
			_, err := m.deleteFlow(tc.by.key, anything, func(_ *bpf.FlowKey, f *bpf.Flow, _ bool) bool {
				look++
				idle := TicksSince(now, f.Seen) > 5000
				tc.touch(look)
				return idle
			})
			if err != nil {
				t.Fatal(err)
			}
			if has(t, m, orig) != tc.orig || has(t, m, reply) != tc.reply {
				t.Errorf("left: originator %v, reply %v; want %v, %v", has(t, m, orig), has(t, m, reply), tc.orig, tc.reply)
			}
		})
	}
}

// Before the timeouts are set, nothing is too old.
func TestExpireWithoutTimeouts(t *testing.T) {
	m, o := newMaps(t, nil)
	orig, reply := masqueraded(1)
	put(t, o.Flows4, orig, reply)
	if s, err := m.Expire(1_000_000, bpf.Config{}); err != nil || s.Deleted != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDeleteFlows(t *testing.T) {
	m, o := newMaps(t, nil)
	var gone, kept []entry
	for i := range uint16(500) { // E-16
		orig, reply := masqueraded(1 + i)
		id := uint32(1 + i%2)
		orig.flow.SrcId, orig.flow.DstId, reply.flow.SrcId, reply.flow.DstId = id, 0, 0, id
		table := o.Flows4
		if i%3 == 0 {
			table = o.Flows4New
		}
		put(t, table, orig, reply)
		if id == 1 {
			gone = append(gone, orig, reply)
		} else {
			kept = append(kept, orig, reply)
		}
	}
	// The tuple of the answers belongs to another flow by now, which stays.
	late, _ := masqueraded(9000)
	late.flow.SrcId = 1
	other, otherReply := newFlow(6, "172.17.0.9", "198.51.100.1", 9000, 443, local, "192.0.2.10", "198.51.100.1", 9000, 443, wire)
	other.flow.SrcId, other.flow.DstId, otherReply.flow.SrcId, otherReply.flow.DstId = 5, 0, 0, 5
	put(t, o.Flows4, late, other, otherReply)
	gone, kept = append(gone, late), append(kept, other, otherReply)

	deleted, err := m.DeleteFlowsOf(map[uint32]bool{1: true, 77: true})
	if err != nil || len(deleted) != 1 || deleted[6] != 251 {
		t.Errorf("deleted the flows %v by protocol, want 251 of TCP; %v", deleted, err)
	}
	for _, e := range gone {
		if has(t, m, e) {
			t.Fatalf("%v is still there", e.key)
		}
	}
	for _, e := range kept {
		if !has(t, m, e) {
			t.Fatalf("%v is gone", e.key)
		}
	}
	// A match of one direction only takes the other along.
	orig, reply := masqueraded(9001)
	put(t, o.Flows4, orig, reply)
	n, err := m.DeleteFlows(func(k *bpf.FlowKey, _ *bpf.Flow) bool { return *k == reply.key })
	if err != nil || n != 1 || has(t, m, orig) || has(t, m, reply) {
		t.Errorf("deleted %d, %v", n, err)
	}
}

func TestTimeouts(t *testing.T) {
	m, _ := newMaps(t, nil)
	mustSync(t, m, someState())
	if err := m.SetTimeouts(DefaultTimeouts(), 250); err != nil {
		t.Fatal(err)
	}
	got, err := m.Config()
	if err != nil {
		t.Fatal(err)
	}
	want := bpf.Config{Epoch: 1, NextId: 3, TcpEstablished: 432000 * 250, TcpHandshake: 60 * 250, TcpClosing: 120 * 250, TcpClosed: 10 * 250,
		UdpNew: 30 * 250, UdpStream: 180 * 250, Icmp: 30 * 250, Generic: 600 * 250, PolicySet: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if DefaultTimeouts().TCPEstablished < 2*time.Hour+11*75*time.Second { // F-3: tcp_keepalive_time, and all its probes
		t.Error("an idle connection is forgotten before its keep-alive")
	}
	if err := m.SetTimeouts(Timeouts{TCPEstablished: 1000 * time.Hour * 24}, 1000); err != nil {
		t.Fatal(err)
	}
	if got, err = m.Config(); err != nil || got.TcpEstablished != 1<<31-1 || got.UdpNew != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReservedPorts(t *testing.T) {
	m, o := newMaps(t, nil)
	for _, ports := range [][]uint16{{0, 63, 64, 65535}, {8080}, nil} {
		if err := m.SetReservedPorts(ports); err != nil {
			t.Fatal(err)
		}
		var got []uint16
		for i := range uint32(1024) {
			var word uint64
			if err := o.ReservedPorts.Lookup(i, &word); err != nil {
				t.Fatal(err)
			}
			for bit := range 64 {
				if word&(1<<bit) != 0 {
					got = append(got, uint16(i)*64+uint16(bit))
				}
			}
		}
		if diff := cmp.Diff(ports, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}
