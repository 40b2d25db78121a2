package firewall

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// judge says why a chain could decide over forwarded traffic, or "". rules reads a chain of the same table.
//
// In the forward hook any rule counts. Before and behind it many chains only mark and count, so there it is those with a rule that can drop.
func judge(c *nftables.Chain, rules func(chain string) ([]*nftables.Rule, error)) string {
	hook := hookOf(c)
	if hook == "" {
		return ""
	}
	why := []string{"hook " + hook}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		why = append(why, "policy drop")
	}
	own, err := rules(c.Name)
	switch {
	case err != nil:
		why = append(why, "rules that cannot be read: "+err.Error())
	case hook != "forward":
		if nftDrops(own, rules, map[string]bool{c.Name: true}) {
			why = append(why, "rules that drop")
		}
	case len(own) == 1:
		why = append(why, "1 rule")
	case len(own) > 1:
		why = append(why, fmt.Sprintf("%d rules", len(own)))
	}
	if len(why) == 1 {
		return ""
	}
	return strings.Join(why, ", ")
}

// inetIngress is NF_INET_INGRESS of linux/netfilter.h: family inet's own way to a device's ingress hook.
const inetIngress = 5

// hookOf names the hook of a chain that forwarded packets pass, and that the datapath takes them away from. What leaves the datapath by a
// device still passes its egress hook.
func hookOf(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Type == nftables.ChainTypeNAT {
		return ""
	}
	if c.Table.Family == nftables.TableFamilyNetdev {
		if *c.Hooknum == *nftables.ChainHookIngress {
			return "ingress"
		}
		return ""
	}
	switch *c.Hooknum {
	case *nftables.ChainHookPrerouting:
		return "prerouting"
	case *nftables.ChainHookForward:
		return "forward"
	case *nftables.ChainHookPostrouting:
		return "postrouting"
	case inetIngress:
		return "ingress"
	}
	return ""
}

// nftDrops tells whether one of the rules, or one of those that they lead to, can keep a packet from going on. A verdict map may hold
// anything, and so may a chain that cannot be read. seen are the chains that need no other look.
func nftDrops(list []*nftables.Rule, rules func(chain string) ([]*nftables.Rule, error), seen map[string]bool) bool {
	for _, r := range list {
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case *expr.Reject, *expr.Queue:
				return true
			case *expr.Lookup:
				if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
					return true
				}
			case *expr.Verdict:
				if e.Kind == expr.VerdictDrop || e.Kind == expr.VerdictQueue || e.Kind == expr.VerdictStolen {
					return true
				}
				if e.Chain == "" || seen[e.Chain] {
					continue
				}
				seen[e.Chain] = true
				next, err := rules(e.Chain)
				if err != nil || nftDrops(next, rules, seen) {
					return true
				}
			}
		}
	}
	return false
}
