package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernelEvents is a subscription to devices, addresses, routes, qdiscs and filters of this namespace, and of every namespace that it has a number for.
type kernelEvents struct {
	socket *nl.NetlinkSocket
}

func subscribe(log *slog.Logger) (*kernelEvents, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_TC)
	if err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	// An address that is added inside a container's namespace is told there only, unless this is asked for. It wants CAP_NET_BROADCAST;
	// without it such a change is seen with the next one that the host's own namespace tells of, or at the next resync.
	if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		log.Warn("no events from containers' namespaces: addresses added inside are seen late", "error", err)
	}
	return &kernelEvents{socket: socket}, nil
}

// follow calls wake for every event, and for events that were lost, until the context ends. torn is set where a qdisc or a filter was taken
// off a device, perhaps one of ours, or that may have been lost; beyond that an event is only a reason to look.
func (k *kernelEvents) follow(ctx context.Context, wake func(torn bool)) {
	stop := context.AfterFunc(ctx, k.socket.Close)
	defer stop()
	for {
		events, _, err := k.socket.Receive()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			wake(slices.ContainsFunc(events, tears))
		case errors.Is(err, unix.ENOBUFS):
			wake(true)
		case errors.Is(err, unix.EINTR):
		default:
			wake(true)
			wait(ctx, time.Second)
		}
	}
}

func tears(m syscall.NetlinkMessage) bool {
	return m.Header.Type == unix.RTM_DELQDISC || m.Header.Type == unix.RTM_DELTFILTER
}

// wait lets time pass, or the context end.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
