package tunnel

import (
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RoutesMark gives a number that is another one when the kernel has other routes or rules of IPv4 than before, those of this project left aside: they
// lead to containers, and never to a host. Not every change of a route is told to who listens: what goes with a
// device that is set down is not.
func RoutesMark() (uint64, error) {
	for {
		mark, err := routesMark()
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		return mark, err
	}
}

func routesMark() (uint64, error) {
	h := fnv.New64a()
	for _, what := range []struct {
		ask  int
		told uint16
	}{{unix.RTM_GETROUTE, unix.RTM_NEWROUTE}, {unix.RTM_GETRULE, unix.RTM_NEWRULE}} {
		q := nl.NewNetlinkRequest(what.ask, unix.NLM_F_DUMP)
		q.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET}})
		answers, err := q.Execute(unix.NETLINK_ROUTE, what.told)
		if err != nil {
			return 0, fmt.Errorf("list routes: %w", err)
		}
		for _, a := range answers {
			if what.ask == unix.RTM_GETROUTE && nl.DeserializeRtMsg(a).Protocol == protocol {
				continue
			}
			h.Write(a)
		}
		h.Write([]byte{0})
	}
	return h.Sum64(), nil
}
