package loader

import "github.com/cilium/ebpf"

// ProgramsByName gives the programs that stand on hooks, or can, by their names in the source. It may be called from any goroutine.
func (d *Datapath) ProgramsByName() map[string]*ebpf.Program {
	d.lateMu.Lock()
	defer d.lateMu.Unlock()
	tc, sock := &d.TC.DatapathPrograms, &d.Sock.SockPrograms
	all := map[string]*ebpf.Program{
		"from_container": tc.FromContainer, "to_container": tc.ToContainer,
		"from_uplink": tc.FromUplink, "to_uplink": tc.ToUplink,
		"from_bridge": tc.FromBridge, "to_bridge": tc.ToBridge,
		"from_overlay": tc.FromOverlay, "to_overlay": tc.ToOverlay,
		"from_peer": tc.FromPeer, "to_peer": tc.ToPeer,
		"sock_connect4": sock.SockConnect4, "sock_connect6": sock.SockConnect6,
		"sock_sendmsg4": sock.SockSendmsg4, "sock_sendmsg6": sock.SockSendmsg6,
		"sock_recvmsg4": sock.SockRecvmsg4, "sock_recvmsg6": sock.SockRecvmsg6,
		"sock_getpeername4": sock.SockGetpeername4, "sock_getpeername6": sock.SockGetpeername6,
	}
	for name, p := range all {
		if p == nil {
			delete(all, name)
		}
	}
	return all
}
