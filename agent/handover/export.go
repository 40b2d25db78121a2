package handover

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/conntrack"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// Clock turns a flow's ticks into time.
type Clock struct {
	Now    uint32
	Second uint32 // ticks in it
	Config *bpf.Config
}

// Entry makes a tracked connection of a flow. Out: false for one that is not to be carried on: the kernel has it, it is over, or it lives by
// something that goes with the datapath.
func Entry(r *maps.FlowRow, c Clock) (conntrack.Entry, bool) {
	orig := tuple(r.Key.Saddr, r.Key.Daddr, r.Key.Sport, r.Key.Dport, r.Key.Proto)
	made := tuple(r.Flow.Saddr, r.Flow.Daddr, r.Flow.Sport, r.Flow.Dport, r.Key.Proto)
	if r.Flow.Flags&(flagKernel|flagOffload) != 0 || r.Flow.Tcp&bpf.DatapathTcpSeenTCP_RST != 0 || r.Flow.Path == bpf.DatapathFlowPathPATH_OVERLAY ||
		orig.Src.Addr().IsLoopback() {
		return conntrack.Entry{}, false
	}
	e := conntrack.Entry{Orig: orig, Reply: made.Inverse(), Status: conntrack.Confirmed}
	if r.Flow.Flags&flagAnswered != 0 {
		e.Status |= conntrack.SeenReply
		if !r.New {
			e.Status |= conntrack.Assured
		}
	}
	if r.Key.Proto == protoTCP {
		e.TCP = tcpState(r)
	}
	_, timeout := maps.FlowState(r.Key.Proto, r.Flow.Flags, r.Flow.Tcp, r.New, c.Config)
	left := max(int64(timeout)-int64(maps.TicksSince(c.Now, r.Flow.Seen)), 0)
	e.Timeout = max(time.Duration(left)*time.Second/time.Duration(max(c.Second, 1)), time.Second)
	return e, true
}

func tcpState(r *maps.FlowRow) conntrack.TCPState {
	const (
		syn    = bpf.DatapathTcpSeenTCP_SYN
		synAck = bpf.DatapathTcpSeenTCP_SYN_REPLY
	)
	switch seen := r.Flow.Tcp; {
	case seen&finBoth == finBoth:
		return conntrack.TCPTimeWait
	case seen&finBoth != 0:
		return conntrack.TCPFinWait
	case r.New && seen&synAck != 0:
		return conntrack.TCPSynRecv
	case r.New && seen&syn != 0:
		return conntrack.TCPSynSent
	}
	return conntrack.TCPEstablished
}

func tuple(saddr, daddr uint32, sport, dport uint16, proto uint8) conntrack.Tuple {
	return conntrack.Tuple{
		Src: netip.AddrPortFrom(bpf.ToAddr(saddr), bpf.ToPort(sport)), Dst: netip.AddrPortFrom(bpf.ToAddr(daddr), bpf.ToPort(dport)), Proto: proto,
	}
}

// Kernel is the kernel's table of tracked connections: a *conntrack.Table.
type Kernel interface {
	List() ([]conntrack.Entry, error)
	Create(conntrack.Entry) error
	Update(conntrack.Entry) error
	Delete(orig conntrack.Tuple) error
}

// Export hands flows over to the kernel, in as many passes as are needed: each takes what has changed since the last.
type Export struct {
	kernel  Kernel
	orig    map[conntrack.Tuple]conntrack.Tuple // what the kernel tracks: an entry's reply by its origin,
	reply   map[conntrack.Tuple]conntrack.Tuple // and the other way round
	written map[conntrack.Tuple]conntrack.Entry // without Timeout, which moves by itself
}

// NewExport looks at what the kernel tracks already.
func NewExport(k Kernel) (*Export, error) {
	list, err := k.List()
	if err != nil {
		return nil, err
	}
	x := &Export{kernel: k, orig: map[conntrack.Tuple]conntrack.Tuple{}, reply: map[conntrack.Tuple]conntrack.Tuple{}, written: map[conntrack.Tuple]conntrack.Entry{}}
	for _, e := range list {
		x.note(&e)
	}
	return x, nil
}

func (x *Export) note(e *conntrack.Entry) {
	x.orig[e.Orig], x.reply[e.Reply] = e.Reply, e.Orig
}

// Put hands one flow over. What the kernel knows of its tuples otherwise is older: the datapath has carried the packets.
func (x *Export) Put(e conntrack.Entry) error {
	bare := e
	bare.Timeout = 0
	if x.written[e.Orig] == bare {
		return nil
	}
	if err := x.put(e); err != nil {
		return err
	}
	x.note(&e)
	x.written[e.Orig] = bare
	return nil
}

func (x *Export) put(e conntrack.Entry) error {
	if reply, there := x.orig[e.Orig]; there && reply == e.Reply {
		err := x.kernel.Update(e)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := x.kernel.Create(e)
	if !errors.Is(err, conntrack.ErrExists) {
		return err
	}
	old := []conntrack.Tuple{e.Orig}
	if orig, there := x.reply[e.Reply]; there && orig != e.Orig {
		old = append(old, orig)
	}
	for _, orig := range old {
		if err := x.kernel.Delete(orig); err != nil {
			return err
		}
	}
	if err := x.kernel.Create(e); err != nil {
		return fmt.Errorf("hand over %s: %w", e.Orig, err)
	}
	return nil
}
