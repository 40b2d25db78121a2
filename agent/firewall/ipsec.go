package firewall

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readIPsec gives the IPsec policies for what leaves the host: the kernel asks them of what it forwards, and of the packets of its tunnels. They
// are nobody's but the administrator's. None where the kernel has no IPsec.
func readIPsec() ([]Rule, error) {
	policies, err := netlink.XfrmPolicyList(netlink.FAMILY_V4)
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 3; tries++ {
		policies, err = netlink.XfrmPolicyList(netlink.FAMILY_V4)
	}
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read IPsec policies: %w", err)
	}
	var rules []Rule
	for _, p := range policies {
		if p.Dir != netlink.XFRM_DIR_OUT {
			continue
		}
		text := fmt.Sprintf("%s to %s", p.Src, p.Dst)
		if p.Proto != 0 {
			text += fmt.Sprintf(", protocol %d", p.Proto)
		}
		if p.DstPort != 0 {
			text += fmt.Sprintf(" port %d", p.DstPort)
		}
		if p.Action == netlink.XFRM_POLICY_BLOCK {
			text += ": blocked"
		}
		rules = append(rules, Rule{Table: "ipsec", Chain: "out", Text: text})
	}
	return rules, nil
}
