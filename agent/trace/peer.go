package trace

import "github.com/ebpfnet/ebpfnet/bpf"

// peer tells which other host has the container that a flow leads to, and the way there.
func (t *Trace) peer(f *bpf.Flow) {
	to := bpf.ToAddr(f.Daddr)
	for i := range t.w.Result.Peers {
		p := &t.w.Result.Peers[i]
		if !p.Subnet.Contains(to) {
			continue
		}
		way := string(p.Kind)
		if p.Direct {
			way = "direct"
		}
		t.out.Peer = p.Subnet.String()
		t.step("peer", "%s is on the host %s, which has %s: %s", to, p.Via, p.Subnet, way)
		return
	}
}
