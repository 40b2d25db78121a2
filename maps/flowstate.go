package maps

import "github.com/ebpfnet/ebpfnet/bpf"

// Numbers of protocols (IPPROTO_* of linux/in.h) whose flows have timeouts of their own.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// FlowState names the state of a flow, and gives for how many ticks it may be idle in it. fresh says that the flow is in the table of flows
// that are not confirmed yet. TCP's states are those of RFC 9293 where they mean the same: syn_sent, syn_received, established, fin_wait (one
// side is done), closing (both are), closed (one has given up); a connection that was met in its middle is new until it is answered. Flows
// of other protocols are new or answered.
func FlowState(proto uint8, flags bpf.FlowFlag, tcp bpf.TCPSeen, fresh bool, cfg *bpf.Config) (state string, timeout uint32) {
	answered := flags&bpf.DatapathFlowFlagFLOW_ANSWERED != 0
	if proto == protoTCP {
		return tcpState(answered, tcp, fresh, cfg)
	}
	state = "new"
	if answered {
		state = "answered"
	}
	switch proto {
	case protoICMP:
		return state, cfg.Icmp
	case protoUDP:
		// A question with its answer is most often all there is.
		if answered && !fresh {
			return state, cfg.UdpStream
		}
		return state, cfg.UdpNew
	}
	return state, cfg.Generic
}

func tcpState(answered bool, tcp bpf.TCPSeen, fresh bool, cfg *bpf.Config) (string, uint32) {
	const (
		syn    = bpf.DatapathTcpSeenTCP_SYN
		synAck = bpf.DatapathTcpSeenTCP_SYN_REPLY
		fin    = bpf.DatapathTcpSeenTCP_FIN
		finAck = bpf.DatapathTcpSeenTCP_FIN_REPLY
		rst    = bpf.DatapathTcpSeenTCP_RST
	)
	switch {
	case tcp&rst != 0:
		return "closed", cfg.TcpClosed
	case tcp&(fin|finAck) == fin|finAck:
		return "closing", cfg.TcpClosed
	case tcp&(fin|finAck) != 0:
		return "fin_wait", cfg.TcpClosing
	case !fresh:
		return "established", cfg.TcpEstablished
	case tcp&synAck != 0:
		return "syn_received", cfg.TcpHandshake
	case tcp&syn != 0:
		return "syn_sent", cfg.TcpHandshake
	case answered:
		return "established", cfg.TcpEstablished
	}
	return "new", cfg.TcpHandshake
}

// TicksSince is how many ticks passed from then to now; 0 where then is later. Ticks wrap, so this holds for half of their range.
func TicksSince(now, then uint32) uint32 {
	return uint32(max(int32(now-then), 0))
}
