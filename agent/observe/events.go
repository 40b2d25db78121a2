package observe

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernelEvents is a subscription to devices, addresses and routes of this namespace, and of every namespace that it has a number for.
type kernelEvents struct {
	socket *nl.NetlinkSocket
}

// receiveSeconds is how long a receive waits before it looks whether it shall end.
const receiveSeconds = 1

func subscribe() (*kernelEvents, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	fd := socket.GetFd()
	// An address that is added inside a container's namespace is told there only, unless this is asked for.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		socket.Close()
		return nil, fmt.Errorf("set NETLINK_LISTEN_ALL_NSID: %w", err)
	}
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: receiveSeconds}); err != nil {
		socket.Close()
		return nil, fmt.Errorf("set receive timeout: %w", err)
	}
	return &kernelEvents{socket: socket}, nil
}

// follow calls wake for every event, and for events that were lost, until the context ends. What an event says is not looked at: it is only
// a reason to look.
func (k *kernelEvents) follow(ctx context.Context, wake func()) {
	defer k.socket.Close()
	for ctx.Err() == nil {
		_, _, err := k.socket.Receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS):
			wake()
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			wake()
		}
	}
}
