package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LearntMTUs gives, for each address of which a router has told the kernel that packets were too big for the way there, what fits. It is what
// `ip route show cache` shows.
func LearntMTUs() (map[netip.Addr]int, error) {
	for {
		found, err := learntMTUs()
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		return found, err
	}
}

func learntMTUs() (map[netip.Addr]int, error) {
	q := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	msg := nl.NewRtMsg()
	msg.Family, msg.Flags = unix.AF_INET, unix.RTM_F_CLONED
	// What a request for all routes asks for by this flag (rtnetlink(7)); the rest of the header asks for nothing.
	msg.Table, msg.Scope, msg.Protocol, msg.Type = 0, 0, 0, 0
	q.AddData(msg)
	answers, err := q.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return nil, fmt.Errorf("list learnt routes: %w", err)
	}
	found := map[netip.Addr]int{}
	for _, a := range answers {
		if nl.DeserializeRtMsg(a).Flags&unix.RTM_F_CLONED == 0 {
			continue
		}
		attrs, err := nl.ParseRouteAttr(a[unix.SizeofRtMsg:])
		if err != nil {
			return nil, fmt.Errorf("list learnt routes: %w", err)
		}
		var to netip.Addr
		mtu := 0
		for _, attr := range attrs {
			switch attr.Attr.Type {
			case unix.RTA_DST:
				to, _ = netip.AddrFromSlice(attr.Value)
			case unix.RTA_METRICS:
				metrics, err := nl.ParseRouteAttr(attr.Value)
				if err != nil {
					return nil, fmt.Errorf("list learnt routes: %w", err)
				}
				for _, m := range metrics {
					if m.Attr.Type == unix.RTAX_MTU && len(m.Value) >= 4 {
						mtu = int(binary.NativeEndian.Uint32(m.Value))
					}
				}
			}
		}
		if to.IsValid() && mtu > 0 {
			found[to] = mtu
		}
	}
	return found, nil
}
