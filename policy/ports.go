package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// target is where a published port leads.
type target struct {
	name     string     // of the endpoint; where there is none, what was asked for
	endpoint int        // in Result.Endpoints; -1 for none
	addr     netip.Addr // valid where there is an endpoint
	why      string     // why there is none
}

// addPorts enters Docker's ports and then the user's, one entry a port. What two claim goes to Docker, which holds the host's socket.
func (c *compiler) addPorts() {
	total := 0
	for _, ct := range c.containers {
		total += len(ct.Ports)
	}
	for _, p := range c.in.Publish {
		total += int(p.Spec.HostEnd) - int(p.Spec.HostPort) + 1
	}
	c.r.State.Publish = make(map[bpf.PublishKey]bpf.Publish, total)
	docker := c.addDockerPorts()
	var missing []netip.Addr
	for _, p := range c.in.Publish {
		c.addUserPort(p, docker)
		if a := p.Spec.HostIP; a.IsValid() && !c.isHost(a) && !slices.Contains(missing, a) {
			missing = append(missing, a)
			c.problem("published port %s, and others of that address: %s is not an address of this host now", p.Spec, a)
		}
	}
}

// addDockerPorts gives the keys that Docker claims, those that lead nowhere included.
func (c *compiler) addDockerPorts() map[bpf.PublishKey]int {
	claimed := make(map[bpf.PublishKey]int)
	for _, ct := range c.containers {
		if len(ct.Ports) == 0 {
			continue
		}
		to := c.containerTarget(ct)
		ports := slices.Clone(ct.Ports)
		slices.SortFunc(ports, func(a, b ContainerPort) int {
			return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP))
		})
		for _, p := range ports {
			spec, ok := p.spec()
			if !ok {
				continue
			}
			key := publishKey(spec.HostIP, p.HostPort, p.Proto)
			if _, taken := claimed[key]; taken {
				continue
			}
			claimed[key] = len(c.r.Ports)
			c.addPort(spec, SourceDocker, to)
			if to.endpoint >= 0 {
				value := c.publishValue(to, p.Port, PublishIntent{Spec: spec})
				c.addDirect(to, p.Port, p.Proto, value)
				// In a routed network the host's own port leads nowhere.
				if !c.bridges[c.r.Endpoints[to.endpoint].BridgeIndex].routed() {
					c.r.State.Publish[key] = value
				}
			}
		}
	}
	return claimed
}

// spec gives Docker's mapping as a spec. Out: false for one on an IPv6 address, or without a host port.
func (p ContainerPort) spec() (PublishSpec, bool) {
	host := p.HostIP.Unmap()
	if host.IsValid() && !host.Is4() || p.HostPort == 0 || p.Port == 0 {
		return PublishSpec{}, false
	}
	if host.IsValid() && host.IsUnspecified() {
		host = netip.Addr{}
	}
	return PublishSpec{HostIP: host, HostPort: p.HostPort, HostEnd: p.HostPort, Port: p.Port, End: p.Port, Proto: p.Proto}, true
}

// containerTarget is where Docker's ports of a container lead.
func (c *compiler) containerTarget(ct *container) target {
	res := c.r.names.containers[ct.ID]
	if res.main < 0 {
		return target{name: res.name, endpoint: -1, why: "its container " + res.why}
	}
	return c.endpointTarget(res.main, netip.Addr{})
}

// endpointTarget leads to one of an endpoint's addresses, or to its main one. Nothing from outside leads into an internal network.
func (c *compiler) endpointTarget(i int, addr netip.Addr) target {
	ep := &c.r.Endpoints[i]
	if !addr.IsValid() {
		addr = ep.Addr()
	}
	switch {
	case !addr.IsValid():
		return target{name: ep.Name, endpoint: -1, why: ep.whyNoAddr()}
	case ep.Internal:
		return target{name: ep.Name, endpoint: -1, why: ep.whyInternal()}
	}
	return target{name: ep.Name, endpoint: i, addr: addr}
}

func (e *EndpointView) whyNoAddr() string {
	return "it has no IPv4 address of bridge " + e.Bridge
}

func (e *EndpointView) whyInternal() string {
	return "network " + e.Network + " is internal"
}

// userTarget looks up what a port was published to.
func (c *compiler) userTarget(p PublishIntent) target {
	if res := c.r.names.containers[p.Container]; p.Container != "" && res != nil {
		if res.main < 0 {
			return target{name: res.name, endpoint: -1, why: "its container " + res.why}
		}
		return c.endpointTarget(res.main, netip.Addr{})
	}
	i, res, err := c.r.names.find(p.Target)
	switch {
	case err != nil:
		return target{name: p.Target, endpoint: -1, why: err.Error()}
	case i < 0:
		return target{name: p.Target, endpoint: -1, why: "its container " + res.why}
	}
	addr, err := netip.ParseAddr(p.Target)
	if err != nil {
		addr = netip.Addr{}
	}
	return c.endpointTarget(i, addr)
}

// addUserPort enters a range that the user published. It stays listed while its target is away, and its ports are free for the host then.
func (c *compiler) addUserPort(p PublishIntent, docker map[bpf.PublishKey]int) {
	to := c.userTarget(p)
	if to.endpoint >= 0 {
		if why := c.whyOffloaded(to.endpoint); why != "" {
			c.problem("published port %s to %s is not in force: %s", p.Spec, to.name, why)
			to = target{name: to.name, endpoint: -1, why: why}
		}
	}
	c.addPort(p.Spec, SourceUser, to)
	if to.endpoint < 0 {
		return
	}
	key := publishKey(p.Spec.HostIP, 0, p.Spec.Proto)
	value := c.publishValue(to, 0, p)
	lost := 0
	for i := 0; i <= int(p.Spec.HostEnd-p.Spec.HostPort); i++ {
		port := p.Spec.HostPort + uint16(i)
		key.Port, value.Port = bpf.Port(port), bpf.Port(p.Spec.Port+uint16(i))
		owner, taken := "", false
		if at, ok := docker[key]; ok {
			owner, taken = "docker for "+c.r.Ports[at].Target, true
		} else if other, ok := c.r.State.Publish[key]; ok {
			owner, taken = "an earlier publish to "+c.nameOf(other.Id), true
		}
		if !taken {
			c.r.State.Publish[key] = value
			c.addDirect(to, p.Spec.Port+uint16(i), p.Spec.Proto, value)
			continue
		}
		if lost == 0 {
			host := HostPorts{HostIP: p.Spec.HostIP, Start: port, End: port, Proto: p.Spec.Proto}
			c.problem("published port %s to %s: %s is taken by %s, which keeps it", p.Spec, to.name, host, owner)
		}
		lost++
	}
	if lost == int(p.Spec.HostEnd-p.Spec.HostPort)+1 {
		row := &c.r.Ports[len(c.r.Ports)-1]
		row.Active, row.Address, row.Inactive = false, netip.Addr{}, "somebody else has the port"
	}
}

// addDirect enters a published port at the container's own address, where that may be dialled from outside.
func (c *compiler) addDirect(to target, port uint16, proto uint8, value bpf.Publish) {
	b := c.r.State.Bridges[uint32(c.r.Endpoints[to.endpoint].BridgeIndex)]
	if b.Direct&bpf.DatapathDirectFlagDIRECT_PUBLISHED != 0 || b.Trusted[0] != 0 {
		c.r.State.Publish[publishKey(to.addr, port, proto)] = value
	}
}

// addPort adds the row that the command line shows.
func (c *compiler) addPort(spec PublishSpec, source string, to target) {
	view := PortView{Spec: spec, Source: source, Target: to.name, Inactive: to.why, Endpoint: to.endpoint}
	if to.endpoint >= 0 {
		view.Active, view.Address = true, to.addr
		ep := &c.r.Endpoints[to.endpoint]
		ep.Ports = append(ep.Ports, len(c.r.Ports))
		view.Slot = c.ids.ports.slot(spec, ep.ID)
	}
	c.r.Ports = append(c.r.Ports, view)
}

// publishValue gives a port's entry, and tells its row, the last one, who may use it.
func (c *compiler) publishValue(to target, port uint16, p PublishIntent) bpf.Publish {
	row := &c.r.Ports[len(c.r.Ports)-1]
	v := bpf.Publish{Addr: bpf.Addr(to.addr), Port: bpf.Port(port), Id: c.r.Endpoints[to.endpoint].ID, Slot: row.Slot}
	row.From, v.From, v.Uplink = c.restrict(to, p)
	row.Uplink = p.Uplink
	return v
}

func publishKey(host netip.Addr, port uint16, proto uint8) bpf.PublishKey {
	return bpf.PublishKey{Addr: bpf.Addr(host), Port: bpf.Port(port), Proto: proto}
}
