package trace

import (
	"fmt"
	"net/netip"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/maps"
	"github.com/ebpfnet/ebpfnet/policy"
)

// Addrs are those whose flows matter to the packet.
func (t *Trace) Addrs() map[uint32]bool {
	return map[uint32]bool{bpf.Addr(t.p.src): true, bpf.Addr(t.p.dst): true}
}

// Run has the programs decide, on copies that load makes of them with flow entries. seeds are the entries that are there.
func (t *Trace) Run(load func(programs []string, entries []maps.FlowEntry) (*loader.Trial, error), seeds []maps.FlowEntry) (api.Trace, error) {
	t.out.Proto = policy.ProtoName(t.p.proto)
	t.out.Original = tuple(t.p.key(0))
	t.out.Translated = t.out.Original
	known := map[bpf.FlowKey]bool{}
	for _, e := range seeds {
		known[e.Key] = true
	}
	frame := t.p.frame()
	program, index, entries := t.program, t.index, seeds
	// A packet meets at most its own hook and one behind the kernel's routing.
	for range 2 {
		if program == "" {
			break
		}
		// Each program takes the kernel's verifier its time: most packets meet one.
		try, err := load([]string{program}, entries)
		if err != nil {
			return t.out, err
		}
		o, next, at, err := t.meet(try, program, index, frame, known)
		if err == nil && next != "" {
			entries, err = try.Flows()
		}
		try.Close()
		if err != nil {
			return t.out, err
		}
		program, index, frame = next, at, o.Frame
	}
	return t.out, nil
}

// meet puts the packet through a program and tells what it did, and gives the next that sees the packet.
func (t *Trace) meet(try *loader.Trial, program string, index int, frame []byte, known map[bpf.FlowKey]bool) (o loader.Outcome, next string, at int, err error) {
	if o, err = try.Run(program, uint32(index), frame); err != nil {
		return o, "", 0, err
	}
	name, _, err := t.w.Device(index)
	if err != nil {
		return o, "", 0, err
	}
	next, at, err = t.hop(try, program, name, index, o, known)
	return o, next, at, err
}

// hop tells what a program did.
func (t *Trace) hop(try *loader.Trial, program, device string, index int, o loader.Outcome, known map[bpf.FlowKey]bool) (next string, at int, err error) {
	e := o.Event
	if e == nil {
		t.step("program", "%s on %s has no say", program, device)
		return t.onward(o.Frame, program, index)
	}
	t.step("program", "%s on %s", program, device)
	t.endpoint("sender", e.SrcId)
	t.endpoint("receiver", e.DstId)
	t.out.Translated = tuple(e.After)
	if e.Known != 0 {
		entry, ok, err := try.Flow(e.Before)
		if err != nil {
			return "", 0, err
		}
		if ok {
			t.flow(&entry, e, known[e.Before])
		}
	}
	if r := t.w.Result.Rules; r != nil && e.Rule != 0 {
		t.out.Rule = r.Rules[e.Rule]
		t.step("rule", "%s", t.out.Rule)
	}
	switch {
	case e.Drop != 0:
		t.out.Verdict, t.out.Reason = "drop", t.w.Names.Drops[e.Drop]
		t.policy(refused(e.Drop))
		t.step("verdict", "drop, reason %s", t.out.Reason)
		return "", 0, nil
	case e.Pass != 0:
		t.out.Verdict, t.out.Reason = "pass", t.w.Names.Passes[e.Pass]
		t.step("verdict", "pass: left to the kernel, reason %s", t.out.Reason)
		if answer := kernelAnswers(e.Pass); answer != "" {
			t.out.Kernel = answer
			t.step("kernel", "%s", answer)
			return "", 0, nil
		}
		return t.onward(o.Frame, program, index)
	}
	t.out.Verdict, t.out.Reason, t.out.Kernel = "forward", "", ""
	t.step("packet", "goes on as %s %s", t.out.Proto, tupleText(t.out.Translated))
	t.step("verdict", "forward%s", t.whither())
	if t.out.Device == "" {
		return t.onward(o.Frame, program, index)
	}
	return "", 0, nil
}

// kernelAnswers is what the kernel sends back for a packet that is left to it for that (its flag "do not fragment" is set).
func kernelAnswers(why bpf.PassReason) string {
	switch why {
	case bpf.DatapathPassReasonPASS_TTL:
		return "answers with time exceeded"
	case bpf.DatapathPassReasonPASS_MTU:
		return "answers with fragmentation needed"
	}
	return ""
}

func (t *Trace) endpoint(what string, id uint32) {
	for i := range t.w.Result.Endpoints {
		if e := &t.w.Result.Endpoints[i]; id != 0 && e.ID == id {
			t.step(what, "container %s on %s", e.Name, e.Bridge)
		}
	}
}

// flow tells what the entry says that carries the packet.
func (t *Trace) flow(entry *maps.FlowEntry, e *bpf.Event, known bool) {
	f := &entry.Flow
	t.out.Path, t.out.Flow = t.w.Names.Paths[f.Path], "new"
	if known {
		t.out.Flow = "known"
	}
	answered := ""
	if known && entry.New {
		answered = ", not answered yet"
	}
	t.step("flow", "%s%s, path %s", map[bool]string{true: "a known flow", false: "a new one"}[known], answered, t.out.Path)
	if f.Flags&bpf.DatapathFlowFlagFLOW_KERNEL != 0 {
		t.step("flow", "the kernel's own rules carry it")
		return
	}
	reply := f.Flags&bpf.DatapathFlowFlagFLOW_REPLY != 0
	if !known {
		t.policy(allowed(f.Path, f.Flags&bpf.DatapathFlowFlagFLOW_DNAT != 0))
	}
	if f.Flags&bpf.DatapathFlowFlagFLOW_DNAT != 0 && !reply {
		t.step("published port", "%s leads to %s", at(e.Before.Daddr, e.Before.Dport), at(f.Daddr, f.Dport))
	}
	if f.Flags&bpf.DatapathFlowFlagFLOW_SNAT != 0 && !reply {
		kept := "with its own port"
		if f.Sport != e.Before.Sport {
			kept = fmt.Sprintf("with port %d, since its own is taken", bpf.ToPort(f.Sport))
		}
		t.step("source", "hidden behind %s, %s", bpf.ToAddr(f.Saddr), kept)
	}
	t.out.Device, t.out.NextHop, t.out.To = "", "", ""
	t.peer(f)
	name, _, err := t.w.Device(int(f.Oif))
	if err != nil {
		name = fmt.Sprintf("device %d", f.Oif)
	}
	switch f.Verb {
	case bpf.DatapathVerbVERB_PEER, bpf.DatapathVerbVERB_DEV:
		t.out.Device = name
		for i := range t.w.Result.Endpoints {
			if ep := &t.w.Result.Endpoints[i]; ep.ID == f.DstId {
				t.out.To = ep.Name
			}
		}
	case bpf.DatapathVerbVERB_NEIGH, bpf.DatapathVerbVERB_VXLAN, bpf.DatapathVerbVERB_DATAGRAM:
		t.out.Device, t.out.NextHop = name, bpf.ToAddr(f.Nexthop).String()
		t.step("route", "by %s to %s", name, t.out.NextHop)
	}
}

func (t *Trace) whither() string {
	switch {
	case t.out.To != "":
		return fmt.Sprintf(": into container %s by %s", t.out.To, t.out.Device)
	case t.out.NextHop != "":
		return fmt.Sprintf(": out of %s to %s", t.out.Device, t.out.NextHop)
	case t.out.Device != "":
		return ": out of " + t.out.Device
	}
	return ": through the host's stack"
}

// onward tells what the kernel does with a packet that a program leaves to it, and gives the program behind that.
func (t *Trace) onward(frame []byte, program string, index int) (next string, at int, err error) {
	dst, src := addrAt(frame, 30), addrAt(frame, 26)
	switch program {
	case "to_uplink", "to_bridge", "to_overlay":
		name, _, err := t.w.Device(index)
		if err == nil {
			t.out.Device = name
			t.out.Kernel = "sends it out of " + name
			t.step("kernel", "%s", t.out.Kernel)
		}
		return "", 0, err
	}
	bridge := t.bridgeOf(index)
	if program == "from_container" {
		_, mac, err := t.w.Device(bridge)
		if err != nil {
			return "", 0, err
		}
		if string(frame[:6]) != string(mac) {
			t.out.Kernel = "the bridge delivers it to whoever has that address"
			t.step("kernel", "%s", t.out.Kernel)
			return "", 0, nil
		}
		index = bridge
	}
	docker := t.w.Result.State.Bridges[uint32(bridge)].Flags&bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES != 0
	way, err := t.w.Way(src, dst, index)
	if err != nil {
		return "", 0, err
	}
	// What comes from the wire meets Docker's rules too, where a bridge has them.
	if program == "from_uplink" {
		docker = t.w.Result.State.Bridges[uint32(way.Index)].Flags&bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES != 0
	}
	t.kernel(way, docker)
	if way.None || way.Local {
		return "", 0, nil
	}
	return t.egress(way.Index), way.Index, nil
}

// bridgeOf is the bridge that a veth is a port of; another device stays as it is.
func (t *Trace) bridgeOf(index int) int {
	if v, ok := t.w.Result.State.Veths[uint32(index)]; ok {
		return int(v.Bridge)
	}
	return index
}

// kernel tells what the kernel does.
func (t *Trace) kernel(way Way, docker bool) {
	switch name, _, err := t.w.Device(way.Index); {
	case way.None:
		t.out.Kernel = "there is no route: the sender is told so"
	case way.Local:
		t.out.Kernel = "takes it for the host itself"
	case err != nil:
		t.out.Kernel = "routes it away"
	default:
		t.out.Kernel = "routes it out of " + name
		if way.Gateway.IsValid() {
			t.out.Kernel += " to " + way.Gateway.String()
		}
	}
	if docker {
		t.out.Kernel += ", if Docker's rules let it pass, translated as they say"
	}
	t.step("kernel", "%s", t.out.Kernel)
}

func addrAt(frame []byte, off int) netip.Addr { return netip.AddrFrom4([4]byte(frame[off : off+4])) }

func at(addr uint32, port uint16) string {
	return fmt.Sprintf("%s:%d", bpf.ToAddr(addr), bpf.ToPort(port))
}

func tuple(k bpf.FlowKey) api.Tuple {
	return api.Tuple{
		Source: bpf.ToAddr(k.Saddr).String(), SourcePort: bpf.ToPort(k.Sport),
		Destination: bpf.ToAddr(k.Daddr).String(), DestinationPort: bpf.ToPort(k.Dport),
	}
}

func tupleText(t api.Tuple) string {
	if t.SourcePort == 0 && t.DestinationPort == 0 {
		return t.Source + ">" + t.Destination
	}
	return fmt.Sprintf("%s:%d>%s:%d", t.Source, t.SourcePort, t.Destination, t.DestinationPort)
}
