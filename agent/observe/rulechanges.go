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

// groupXFRMPolicy is XFRMNLGRP_POLICY (include/uapi/linux/xfrm.h): every change of an IPsec policy.
const groupXFRMPolicy = 4

// legacyInterval is the time between two looks at whether the rules of iptables' older backend have changed, of which nobody tells.
const legacyInterval = 3 * time.Second

// legacyTables names the tables that the older backend has in this network namespace; none where there is no such file.
const legacyTables = "/proc/thread-self/net/ip_tables_names"

// followRules calls changed when a rule has changed, or, where that is not sure, from time to time, until the context ends.
func followRules(ctx context.Context, log *slog.Logger, changed func(sure bool)) {
	go followLegacy(ctx, changed)
	go followGroup(ctx, log, "IPsec", unix.NETLINK_XFRM, groupXFRMPolicy, changed)
	followGroup(ctx, log, "nf_tables", unix.NETLINK_NETFILTER, groupNFTables, changed)
}

// followGroup calls changed for all that a netlink group tells, and where something it told was lost, until the context ends.
func followGroup(ctx context.Context, log *slog.Logger, whose string, protocol int, group uint, changed func(sure bool)) {
	socket, err := nl.Subscribe(protocol, group)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return // nor has the kernel any rules of that kind
	}
	if err != nil {
		log.Warn("rules that change are seen late", "error", fmt.Errorf("subscribe to %s: %w", whose, err))
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
