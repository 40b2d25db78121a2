package trace

import "github.com/ebpfnet/ebpfnet/bpf"

// allowed says what lets a new flow pass on its path. Rules of one's own, which narrow that, have a step of their own.
func allowed(path bpf.FlowPath, published bool) string {
	switch path {
	case bpf.DatapathFlowPathPATH_LOCAL:
		if published {
			return "a published port is open to the host's other containers"
		}
		return "containers of one bridge may talk to each other"
	case bpf.DatapathFlowPathPATH_OUT:
		return "containers of this bridge may go out"
	case bpf.DatapathFlowPathPATH_IN:
		return "a published port is open to the outside"
	case bpf.DatapathFlowPathPATH_HOST:
		return "the host and its containers may talk to each other"
	case bpf.DatapathFlowPathPATH_OVERLAY:
		return "containers of hosts in one network may talk to each other"
	}
	return ""
}

// refused says what forbids a packet, for the reasons that are somebody's will and not a fault of the packet's; else "".
func refused(why bpf.DropReason) string {
	switch why {
	case bpf.DatapathDropReasonDROP_SPOOFED:
		return "nobody sends with an address that is not his own"
	case bpf.DatapathDropReasonDROP_LOOPBACK:
		return "loopback addresses stay inside the host"
	case bpf.DatapathDropReasonDROP_ISOLATED:
		return "bridges are kept apart; a published port leads from one to another"
	case bpf.DatapathDropReasonDROP_ICC:
		return "this bridge keeps its containers apart (enable_icc=false)"
	case bpf.DatapathDropReasonDROP_INTERNAL:
		return "an internal network has no way out and no way in"
	case bpf.DatapathDropReasonDROP_DIRECT:
		return "a container's own address is not to be dialled from outside; a published port is"
	case bpf.DatapathDropReasonDROP_NO_PEER:
		return "an address of the hosts' network that no host has is nobody's"
	case bpf.DatapathDropReasonDROP_NOT_PEER:
		return "only the host that has an address of the hosts' network sends with it"
	case bpf.DatapathDropReasonDROP_UNKNOWN_CONTAINER:
		return "nobody is served whom the agent does not know (attach --fail-closed)"
	case bpf.DatapathDropReasonDROP_FORGED_TUNNEL:
		return "a container sends nothing to a host's tunnel port"
	case bpf.DatapathDropReasonDROP_POLICY_EGRESS:
		return "no rule lets the sender send this"
	case bpf.DatapathDropReasonDROP_POLICY_INGRESS:
		return "no rule lets the receiver be sent this"
	case bpf.DatapathDropReasonDROP_PUBLISH_FROM:
		return "the published port is not for that address"
	case bpf.DatapathDropReasonDROP_PUBLISH_UPLINK:
		return "the published port is not for that device"
	}
	return ""
}

// policy adds a step where there is something to say.
func (t *Trace) policy(text string) {
	if text != "" {
		t.step("policy", "%s", text)
	}
}
