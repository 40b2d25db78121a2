package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Options of Docker's bridge networks that the datapath honours.
const (
	optMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optICC        = "com.docker.network.bridge.enable_icc"
	optHostIPv4   = "com.docker.network.host_ipv4"
	optGateway    = "com.docker.network.bridge.gateway_mode_ipv4"
	optDefault    = "com.docker.network.bridge.default_bridge"
	optBinding    = "com.docker.network.bridge.host_binding_ipv4"
	optTrusted    = "com.docker.network.bridge.trusted_host_interfaces"
)

// The modes that a bridge can be in, and ModeAuto, which chooses one by the host's rules.
const (
	ModeAuto    = "auto"
	ModeNative  = "native"  // the datapath itself decides about a flow's first packet
	ModeOffload = "offload" // the host's own rules decide, and the datapath carries what they let through
)

// gwbridge is Docker's bridge between its overlay networks and the host. It is a bridge like another, but belongs to swarm: only a user
// who names it gets it attached.
const gwbridge = "docker_gwbridge"

// bridge is an attached one.
type bridge struct {
	*Bridge
	Identity Identity
	network  *Network // Docker's; nil where it has none
	subnets  []netip.Prefix
	view     int // in Result.Bridges
}

func (b *bridge) internal() bool {
	return b.network != nil && b.network.Internal
}

func (b *bridge) holds(a netip.Addr) bool {
	return slices.ContainsFunc(b.subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addBridges attaches what the intent names, and what it means by all.
func (c *compiler) addBridges() {
	names := make(map[string]BridgeIntent)
	for _, b := range c.in.Bridges {
		names[b.Name] = b
	}
	if c.in.All {
		for i := range c.o.Networks {
			name := c.o.Networks[i].Bridge
			_, there := c.findBridge(name)
			_, named := names[name]
			if there && !named && name != gwbridge && c.o.Networks[i].Name != gwbridge && !slices.Contains(c.in.Except, name) {
				names[name] = BridgeIntent{Name: name, Mode: c.in.AllMode, FailClosed: c.in.AllFailClosed, Spoofing: c.in.AllSpoofing}
			}
		}
	}
	for name, b := range names {
		c.r.Bridges = append(c.r.Bridges, BridgeView{Name: name, Mode: b.Mode, FailClosed: b.FailClosed, Spoofing: b.Spoofing})
	}
	slices.SortFunc(c.r.Bridges, func(a, b BridgeView) int { return strings.Compare(a.Name, b.Name) })

	views := make(map[string]int, len(c.r.Bridges))
	for i := range c.r.Bridges {
		v := &c.r.Bridges[i]
		v.Why = "there is no such bridge yet: waiting for it"
		views[v.Name] = i
		if at, there := c.findBridge(v.Name); there {
			c.choose(v, at)
		}
	}
	// By ifindex, so that the older bridge keeps what two claim.
	for i := range c.o.Bridges {
		if view, ok := views[c.o.Bridges[i].Name]; ok {
			c.addBridge(&c.o.Bridges[i], view)
		}
	}
}

func (c *compiler) findBridge(name string) (*Bridge, bool) {
	i := slices.IndexFunc(c.o.Bridges, func(b Bridge) bool { return b.Name == name })
	if i < 0 {
		return nil, false
	}
	return &c.o.Bridges[i], true
}

// addBridge attaches one bridge, whose row in Result.Bridges is view.
func (c *compiler) addBridge(from *Bridge, view int) {
	v := &c.r.Bridges[view]
	addrs := ipv4(from.Addrs)
	if len(addrs) == 0 {
		v.Why = "it has no IPv4 address"
		c.problem("bridge %s has no IPv4 address: not attached until it has one", from.Name)
		return
	}
	identity, ok := c.ids.bridge(from)
	if !ok {
		v.Why = "too many bridges"
		c.problem("bridge %s is not attached: there is room for %d bridges", from.Name, c.ids.bslots.size)
		return
	}
	b := &bridge{Bridge: from, Identity: identity, view: view}
	if i := slices.IndexFunc(c.o.Networks, func(n Network) bool { return n.Bridge == from.Name }); i >= 0 {
		b.network = &c.o.Networks[i]
		v.Network = b.network.Name
	}
	for _, a := range addrs {
		c.addSubnet(b, a.Masked())
	}
	c.bridges[from.Index] = b
	entry := bpf.Bridge{
		Addr:  bpf.Addr(addrs[0].Addr()),
		Flags: bpf.DatapathBridgeFlagBRIDGE_MASQUERADE | bpf.DatapathBridgeFlagBRIDGE_ICC,
		Slot:  identity.Slot,
		Mac:   macArray(from.MAC),
		Mtu:   mtu16(from.MTU),
	}
	if from.DockerRules {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES
	}
	// Whoever's rules they are: what is not carried here is theirs.
	if v.Mode == ModeOffload {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_OFFLOAD | bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES
	}
	if c.o.RulesUnknown != "" || len(c.o.ForeignRules) > 0 {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_FILTERED
	}
	if v.FailClosed {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_CLOSED
	}
	if v.Spoofing {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_SPOOFING
	}
	c.applyOptions(b, &entry)
	c.r.State.Bridges[uint32(from.Index)] = entry

	v.Index, v.Slot, v.Attached, v.Why = from.Index, identity.Slot, true, ""
	v.Subnets, v.Address, v.Docker = b.subnets, addrs[0].Addr(), from.DockerRules
}

// addSubnet enters a prefix of a bridge. Two bridges cannot have the same: the host itself could reach only one of them.
func (c *compiler) addSubnet(b *bridge, p netip.Prefix) {
	if slices.Contains(b.subnets, p) {
		return
	}
	key := bpf.PrefixKey{Prefixlen: uint32(p.Bits()), Addr: bpf.Addr(p.Addr())}
	if other, taken := c.r.State.Subnets[key]; taken {
		c.problem("bridges %s and %s have the same subnet %s: %s has it", c.bridges[int(other.Bridge)].Name, b.Name, p,
			c.bridges[int(other.Bridge)].Name)
		return
	}
	b.subnets = append(b.subnets, p)
	c.r.State.Subnets[key] = bpf.Subnet{Bridge: uint32(b.Index)}
}

// applyOptions puts into a bridge's entry what Docker was asked for when its network was made.
func (c *compiler) applyOptions(b *bridge, entry *bpf.Bridge) {
	n := b.network
	if n == nil {
		return
	}
	if n.Internal {
		entry.Flags |= bpf.DatapathBridgeFlagBRIDGE_INTERNAL
	}
	// An engine that may write no rules (--iptables=false) says of its default bridge that it does not masquerade, whatever it was told to:
	// there that word means that somebody else has to.
	if off(n.Options[optMasquerade]) && (b.DockerRules || !isSet(n.Options[optDefault])) {
		entry.Flags &^= bpf.DatapathBridgeFlagBRIDGE_MASQUERADE
	}
	if off(n.Options[optICC]) {
		entry.Flags &^= bpf.DatapathBridgeFlagBRIDGE_ICC
	}
	switch mode := n.Options[optGateway]; mode {
	case "", "nat", "isolated":
	case modeRouted:
		entry.Flags &^= bpf.DatapathBridgeFlagBRIDGE_MASQUERADE
		entry.Direct = bpf.DatapathDirectFlagDIRECT_PUBLISHED | bpf.DatapathDirectFlagDIRECT_ECHO
	case "nat-unprotected":
		entry.Direct = bpf.DatapathDirectFlagDIRECT_ALL | bpf.DatapathDirectFlagDIRECT_ECHO
	default:
		c.problem("network %s has gateway mode %s, which is not supported yet: treated as nat", n.Name, mode)
	}
	c.addTrusted(n, entry)
	if a, err := netip.ParseAddr(n.Options[optBinding]); err == nil && a.Is4() && !a.IsUnspecified() {
		c.r.Bridges[b.view].Binding = a
	}
	if s := n.Options[optHostIPv4]; s != "" {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || !a.Is4():
			c.problem("network %s has the option %s=%s, which is not an IPv4 address: ignored", n.Name, optHostIPv4, s)
		case !c.host[a]:
			// Answers would never come back to this host.
			c.problem("network %s has the option %s=%s, which is not an address of this host now: ignored", n.Name, optHostIPv4, s)
		default:
			entry.Masquerade = bpf.Addr(a)
		}
	}
}

// modeRouted is the gateway mode in which nothing is translated: who is outside dials a container's own address and published port.
const modeRouted = "routed"

func (b *bridge) routed() bool {
	return b.network != nil && b.network.Options[optGateway] == modeRouted
}

// addTrusted enters the devices, with colons between them, by which a network's published ports may be dialled at the containers' own addresses.
func (c *compiler) addTrusted(n *Network, entry *bpf.Bridge) {
	names := n.Options[optTrusted]
	if names == "" {
		return
	}
	at := 0
	for name := range strings.SplitSeq(names, ":") {
		i := slices.IndexFunc(c.o.Uplinks, func(u Uplink) bool { return u.Name == name })
		switch {
		case i < 0:
			c.problem("network %s trusts the device %s, and there is none of that name now", n.Name, name)
		case at == len(entry.Trusted):
			c.problem("network %s trusts more than %d devices: %s is left out", n.Name, len(entry.Trusted), name)
		default:
			entry.Trusted[at] = uint32(c.o.Uplinks[i].Index)
			at++
		}
	}
}

// isSet tells whether Docker takes an option's value for true.
func isSet(value string) bool { return value != "" && !off(value) }

// off tells whether Docker takes an option's value for false, as Go's strconv.ParseBool does. An option that is not set is on.
func off(value string) bool {
	switch value {
	case "0", "f", "F", "false", "FALSE", "False":
		return true
	}
	return false
}
