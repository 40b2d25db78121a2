package offload

import (
	"context"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/agent/handover"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// kernel is connection tracking and the flow table.
type kernel struct {
	mu       sync.Mutex
	tracked  []conntrack.Entry
	loosened map[conntrack.Tuple]bool
	flows    map[bpf.FlowKey]bpf.Flow
	open     int // tables and subscriptions

	events chan told
}

func (k *kernel) List() ([]conntrack.Entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]conntrack.Entry(nil), k.tracked...), nil
}

func (k *kernel) Loosen(orig conntrack.Tuple) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.tracked {
		if e.Orig == orig {
			k.loosened[orig] = true
			return nil
		}
	}
	return fs.ErrNotExist
}

func (k *kernel) Close() { k.mu.Lock(); k.open--; k.mu.Unlock() }

// listener is a subscription.
type listener struct {
	*kernel
	closed chan struct{}
}

func (l listener) Receive() ([]conntrack.Event, error) {
	select {
	case t := <-l.events:
		return t.events, t.err
	case <-l.closed:
		return nil, context.Canceled
	}
}

func (l listener) Close() { close(l.closed); l.kernel.Close() }

func (k *kernel) Now() (uint32, error)        { return 5000, nil }
func (k *kernel) Config() (bpf.Config, error) { return bpf.Config{Epoch: 3}, nil }

func (k *kernel) Flow(key bpf.FlowKey) (bpf.Flow, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.flows[key]
	return f, ok, nil
}

func (k *kernel) Adopt(a *maps.Adoption) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, one := k.flows[a.Key]
	_, other := k.flows[a.ReplyKey]
	if one || other {
		return false, nil
	}
	k.flows[a.Key], k.flows[a.ReplyKey] = a.Flow, a.Reply
	return true, nil
}

func (k *kernel) DeleteFlow(key bpf.FlowKey, match func(*bpf.Flow) bool) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.flows[key]
	if !ok || !match(&f) {
		return false, nil
	}
	delete(k.flows, key)
	delete(k.flows, bpf.FlowKey{Saddr: f.Daddr, Daddr: f.Saddr, Sport: f.Dport, Dport: f.Sport, Proto: key.Proto, Zone: f.PartnerZone})
	return true, nil
}

func (k *kernel) Flows(fn func(*maps.FlowRow) bool) error {
	k.mu.Lock()
	var rows []maps.FlowRow
	for key, f := range k.flows {
		if f.Flags&bpf.DatapathFlowFlagFLOW_REPLY == 0 {
			rows = append(rows, maps.FlowRow{Key: key, Flow: f})
		}
	}
	k.mu.Unlock()
	for i := range rows {
		if !fn(&rows[i]) {
			break
		}
	}
	return nil
}

func addr(s string) bpf.AddrKey { return bpf.AddrKey{Addr: bpf.Addr(netip.MustParseAddr(s))} }

func world() *handover.World {
	return &handover.World{
		State: maps.State{
			Endpoints: map[bpf.AddrKey]bpf.Endpoint{addr("172.17.0.2"): {Id: 1, Ifindex: 21, Bridge: 10}},
			Bridges:   map[uint32]bpf.Bridge{10: {}},
			Uplinks:   map[uint32]bpf.Uplink{2: {}},
			HostAddrs: map[bpf.AddrKey]bpf.HostAddr{addr("192.0.2.1"): {}},
		},
		Bridges: map[uint32]bool{10: true},
	}
}

func connection(proto uint8, port string) conntrack.Entry {
	t := func(s, d string) conntrack.Tuple {
		return conntrack.Tuple{Src: netip.MustParseAddrPort(s), Dst: netip.MustParseAddrPort(d), Proto: proto}
	}
	e := conntrack.Entry{
		Orig: t("172.17.0.2:"+port, "203.0.113.2:80"), Reply: t("203.0.113.2:80", "192.0.2.1:"+port),
		Status: conntrack.Confirmed | conntrack.SeenReply | conntrack.Assured,
	}
	if proto == protoTCP {
		e.TCP = conntrack.TCPEstablished
	}
	return e
}

// start runs a Carrier until the test ends.
func start(t *testing.T, k *kernel) *Carrier {
	t.Helper()
	k.loosened, k.flows, k.events = map[conntrack.Tuple]bool{}, map[bpf.FlowKey]bpf.Flow{}, make(chan told)
	opened := func() { k.mu.Lock(); k.open++; k.mu.Unlock() }
	c := New(Host{
		Open:   func() (Table, error) { opened(); return k, nil },
		Listen: func() (Events, error) { opened(); return listener{k, make(chan struct{})}, nil },
		Flows:  func(f func(Flows) error) error { return f(k) },
		Route: func() func(uint32, netip.Addr, netip.Addr) (uint32, netip.Addr, bool) {
			return func(_ uint32, _, dst netip.Addr) (uint32, netip.Addr, bool) { return 2, dst, true }
		},
		Second: 100, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if k.open != 0 {
			t.Errorf("%d tables and subscriptions are open", k.open)
		}
	})
	return c
}

// has waits until the flow table has exactly the flows of some connections.
func (k *kernel) has(t *testing.T, what string, want ...conntrack.Entry) {
	t.Helper()
	agrees := func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.flows) != 2*len(want) {
			return false
		}
		for _, e := range want {
			f, ok := k.flows[handover.Keys(&e)[0]]
			if !ok || !handover.Of(&f, &e) || k.loosened[e.Orig] != (e.TCP != conntrack.TCPNone) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if agrees() {
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t.Fatalf("%s: flows %+v, loosened %v; want %+v", what, k.flows, k.loosened, want)
}

func (k *kernel) track(list ...conntrack.Entry) { k.mu.Lock(); k.tracked = list; k.mu.Unlock() }

// What is established is entered, from the table and from events, and what is gone is taken out; events that were lost are made good.
func TestCarrier(t *testing.T) {
	k := &kernel{}
	one, two, three := connection(6, "1001"), connection(17, "1002"), connection(6, "1003")
	k.track(one)
	c := start(t, k)
	c.Set(world())
	k.has(t, "established before", one)
	k.track(one, two)
	k.events <- told{events: []conntrack.Event{{Entry: two}}}
	k.has(t, "established", one, two)
	k.track(one)
	k.events <- told{events: []conntrack.Event{{Entry: two, Gone: true}}}
	k.has(t, "gone", one)

	// Over before it was worth an entry.
	over := three
	over.TCP = conntrack.TCPFinWait
	k.track(one)
	k.events <- told{events: []conntrack.Event{{Entry: three}, {Entry: over}}}
	k.track(three)
	k.events <- told{err: conntrack.ErrLost}
	k.has(t, "lost events", three)

	// Begun anew, and translated otherwise.
	moved := three
	moved.Reply.Dst = netip.MustParseAddrPort("192.0.2.1:2003")
	k.track(moved)
	k.events <- told{err: conntrack.ErrLost}
	k.has(t, "translated otherwise", moved)

	// A half of it was pushed out, and what was decided without the rules is in the way.
	k.mu.Lock()
	key := handover.Keys(&moved)[0]
	delete(k.flows, key)
	k.flows[key] = bpf.Flow{SrcId: 1, Saddr: 7}
	k.mu.Unlock()
	k.events <- told{err: conntrack.ErrLost}
	k.has(t, "in the way", moved)

	c.Set(nil)
	k.track(one, two, three)
	select {
	case k.events <- told{events: []conntrack.Event{{Entry: one}}}:
	case <-time.After(50 * time.Millisecond):
	}
	k.has(t, "nothing is asked for", moved)
	c.Set(world())
	k.has(t, "again", one, two, three)
}
