package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Groups of the subsystem (enum nfnetlink_groups, include/uapi/linux/netfilter/nfnetlink.h).
const (
	groupUpdate  = 2 // NFNLGRP_CONNTRACK_UPDATE
	groupDestroy = 3 // NFNLGRP_CONNTRACK_DESTROY
)

// eventBuffer is how many bytes of events wait for their reader before the kernel throws some away.
const eventBuffer = 8 << 20

// ErrLost says that events were thrown away, because they came faster than they were read.
var ErrLost = errors.New("events of connection tracking were lost")

// Event is something that has become of a tracked connection: it is established now, or has changed since, or is gone.
type Event struct {
	Entry Entry
	Gone  bool
}

// Events is a subscription.
type Events struct{ socket *nl.NetlinkSocket }

// Listen subscribes to the table of the calling thread's network namespace.
func Listen() (*Events, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER, groupUpdate, groupDestroy)
	if err != nil {
		return nil, fmt.Errorf("subscribe to conntrack: %w", err)
	}
	if err := unix.SetsockoptInt(s.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe to conntrack: set buffer: %w", err)
	}
	return &Events{s}, nil
}

// Receive waits for events. Connections that are not established, and not gone, are passed over. ErrLost comes in place of those that were
// thrown away, and the next call goes on. After Close it is an error.
func (e *Events) Receive() ([]Event, error) {
	messages, _, err := e.socket.Receive()
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return nil, ErrLost
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("receive from conntrack: %w", err)
	}
	var all []Event
	for _, m := range messages {
		gone := m.Header.Type&0xff == nl.IPCTNL_MSG_CT_DELETE
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_CTNETLINK || !gone && !assured(m.Data) {
			continue
		}
		entry, ok, err := decodeAny(m.Data)
		if err != nil {
			return all, err
		}
		if ok {
			all = append(all, Event{entry, gone})
		}
	}
	return all, nil
}

// Close ends the subscription, and a Receive that waits.
func (e *Events) Close() { e.socket.Close() }

// assured looks at a message's status alone: most of what is told of a busy host is of connections that have just begun.
func assured(msg []byte) bool {
	for at := nl.SizeofNfgenmsg; at+unix.SizeofRtAttr <= len(msg); {
		size := int(binary.NativeEndian.Uint16(msg[at:]))
		if size < unix.SizeofRtAttr || at+size > len(msg) {
			return false
		}
		if binary.NativeEndian.Uint16(msg[at+2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == nl.CTA_STATUS {
			return Status(number(msg[at+unix.SizeofRtAttr:at+size]))&Assured != 0
		}
		at += (size + 3) &^ 3
	}
	return false
}
