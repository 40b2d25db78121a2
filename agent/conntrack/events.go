package conntrack

import (
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Groups of the subsystem (enum nfnetlink_groups, include/uapi/linux/netfilter/nfnetlink.h).
const (
	groupUpdate  = 2 // NFNLGRP_CONNTRACK_UPDATE
	groupDestroy = 3 // NFNLGRP_CONNTRACK_DESTROY
)

const (
	// eventBuffer is how many bytes of events wait for their reader before the kernel throws some away.
	eventBuffer = 8 << 20
	// eventInterval is the time between two looks at what has come. A busy host has thousands of events in a second: who was woken by each would
	// take more time from the connections than the kernel's rules do.
	eventInterval = 20 * time.Millisecond
	// eventBytes is room for one event, and eventBatch how many are given at once.
	eventBytes = 16 << 10
	eventBatch = 4096
)

// ErrLost says that events were thrown away, because they came faster than they were read.
var ErrLost = errors.New("events of connection tracking were lost")

// Event is something that has become of a tracked connection: it is established now, or has changed since, or is gone.
type Event struct {
	Entry Entry
	Gone  bool
}

// Events is a subscription. Its socket is in no poller, which would be woken by each event.
type Events struct {
	closed chan struct{}

	mu  sync.Mutex // held while the socket is used
	fd  int        // -1 when it is closed
	buf [eventBytes]byte
}

// Listen subscribes to the table of the calling thread's network namespace.
func Listen() (*Events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("subscribe to conntrack: open socket: %w", err)
	}
	e := &Events{closed: make(chan struct{}), fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer); err != nil {
		e.Close()
		return nil, fmt.Errorf("subscribe to conntrack: set buffer: %w", err)
	}
	filter := established()
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		e.Close()
		return nil, fmt.Errorf("subscribe to conntrack: set filter: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1<<(groupUpdate-1) | 1<<(groupDestroy-1)}); err != nil {
		e.Close()
		return nil, fmt.Errorf("subscribe to conntrack: %w", err)
	}
	return e, nil
}

// established is a program for the socket (linux/filter.h): most of what is told of a busy host is of connections that have just begun, and does
// not get here. A message passes if it tells of an end, or if its status says that the connection is assured.
func established() []unix.SockFilter {
	const (
		attribute    = 0xfffff000 + 12 // SKF_AD_OFF + SKF_AD_NLATTR: where the attribute X stands, from A on
		messageType  = 4               // in struct nlmsghdr
		firstOfEntry = unix.SizeofNlMsghdr + nl.SizeofNfgenmsg
		all          = 0xffffffff
	)
	// The program reads numbers in network order, and this one is in the machine's.
	ended := uint32(nfnetlinkType(nl.IPCTNL_MSG_CT_DELETE))
	if nl.NativeEndian().Uint16([]byte{1, 0}) == 1 {
		ended = uint32(bits.ReverseBytes16(uint16(ended)))
	}
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: messageType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 7, K: ended},
		{Code: unix.BPF_LDX | unix.BPF_W | unix.BPF_IMM, K: nl.CTA_STATUS},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IMM, K: firstOfEntry},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: attribute},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 4, K: 0},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND, K: unix.SizeofRtAttr},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: uint32(Assured)},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

func nfnetlinkType(message int) uint16 { return unix.NFNL_SUBSYS_CTNETLINK<<8 | uint16(message) }

// Receive waits for events, and gives those that have come by then. Connections that are not established, and not gone, are passed over. ErrLost
// comes with what is left where some were thrown away, and the next call goes on. After Close it is net.ErrClosed.
func (e *Events) Receive() ([]Event, error) {
	look := time.NewTicker(eventInterval)
	defer look.Stop()
	for {
		all, err := e.read()
		if len(all) > 0 || err != nil {
			return all, err
		}
		select {
		case <-e.closed:
		case <-look.C:
		}
	}
}

// read gives what has come.
func (e *Events) read() (all []Event, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return nil, fmt.Errorf("receive from conntrack: %w", net.ErrClosed)
	}
	for len(all) < eventBatch {
		n, _, err := unix.Recvfrom(e.fd, e.buf[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return all, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			return all, ErrLost
		case err != nil:
			return all, fmt.Errorf("receive from conntrack: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(e.buf[:n])
		if err != nil {
			return all, fmt.Errorf("receive from conntrack: %w", err)
		}
		for _, m := range messages {
			entry, ok, err := decodeAny(m.Data)
			if err != nil {
				return all, err
			}
			if ok {
				all = append(all, Event{entry, m.Header.Type == nfnetlinkType(nl.IPCTNL_MSG_CT_DELETE)})
			}
		}
	}
	return all, nil
}

// Close ends the subscription, and a Receive that waits.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return
	}
	close(e.closed)
	unix.Close(e.fd)
	e.fd = -1
}
