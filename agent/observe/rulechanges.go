package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groupNFTables is NFNLGRP_NFTABLES (include/uapi/linux/netfilter/nfnetlink.h): every change of nf_tables, so also of iptables' rules in it.
const groupNFTables = 7

// legacyInterval is the time between two looks at whether the rules of iptables' older backend have changed, of which nobody tells.
const legacyInterval = 3 * time.Second

// legacyTables names the tables that the older backend has in this network namespace; none where there is no such file.
const legacyTables = "/proc/thread-self/net/ip_tables_names"

// followRules calls changed when a rule has changed, or, where that is not sure, from time to time, until the context ends.
func followRules(ctx context.Context, log *slog.Logger, changed func(sure bool)) {
	go followLegacy(ctx, changed)
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, groupNFTables)
	if err != nil {
		log.Warn("no events from nf_tables: rules that change are seen late", "error", fmt.Errorf("subscribe to nf_tables: %w", err))
		return
	}
	stop := context.AfterFunc(ctx, socket.Close)
	defer stop()
	for {
		_, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			wait(ctx, time.Second)
		}
		changed(true)
	}
}

// followLegacy calls changed from time to time while the older backend has tables.
func followLegacy(ctx context.Context, changed func(sure bool)) {
	for ctx.Err() == nil {
		wait(ctx, legacyInterval)
		if names, err := os.ReadFile(legacyTables); err == nil && len(bytes.TrimSpace(names)) > 0 {
			changed(false)
		}
	}
}
