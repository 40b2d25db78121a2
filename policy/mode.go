package policy

import (
	"fmt"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// mode gives the mode that is in force on a bridge for which one was asked, and why. Where rules stand beside Docker's, Docker's go on
// translating, and the others are asked too. Where Docker has none, nobody would translate in our place, so it stays as it was attached.
func (c *compiler) mode(asked string, b *Bridge) (mode, reason string) {
	switch {
	case asked == ModeOffload:
		return ModeOffload, "it was asked for"
	case asked != ModeAuto:
		return ModeNative, "it was asked for"
	case len(c.o.ForeignRules) == 0 && !b.DockerRules:
		return ModeNative, "no netfilter rules are in the way"
	case len(c.o.ForeignRules) == 0:
		return ModeNative, "all netfilter rules in the way are Docker's own"
	case !b.DockerRules:
		return ModeNative, "Docker's rules do not translate for this bridge, so nobody else would"
	}
	return ModeOffload, "rules that are not Docker's own decide (" + DescribeRules(c.o.ForeignRules) + ")"
}

// choose puts a bridge that is there into its mode. That rules are bypassed though nobody has said so is a problem.
func (c *compiler) choose(v *BridgeView, b *Bridge) {
	asked := v.Mode
	v.Mode, v.Reason = c.mode(asked, b)
	if v.Mode == ModeNative && asked == ModeAuto && len(c.o.ForeignRules) > 0 {
		c.problem("bridge %s: the datapath bypasses rules that are not Docker's own (%s)", v.Name, DescribeRules(c.o.ForeignRules))
	}
}

// DescribeRules gives some of them, for one line.
func DescribeRules(rules []string) string {
	const most = 3
	s := fmt.Sprintf("%d: %s", len(rules), strings.Join(rules[:min(len(rules), most)], "; "))
	if len(rules) > most {
		s += "; ..."
	}
	return s
}

// whyOffloaded says why no port of the user's leads to an endpoint, where that is so because of its bridge's mode; else it gives "".
func (c *compiler) whyOffloaded(endpoint int) string {
	ep := &c.r.Endpoints[endpoint]
	if c.r.State.Bridges[uint32(ep.BridgeIndex)].Flags&bpf.DatapathBridgeFlagBRIDGE_OFFLOAD == 0 {
		return ""
	}
	return "bridge " + ep.Bridge + " is in mode offload, where the host's own rules decide and know only what they publish themselves " +
		"(`docker run -p`)"
}
