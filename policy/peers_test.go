package policy

import (
	"net/netip"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// J-11: this host's own address in the hosts' network is one of its addresses before the kernel has told of it, and once only after that.
func TestOwnAddressAmongHosts(t *testing.T) {
	const device = 40
	own := netip.MustParseAddr("10.200.1.0")
	o := machine()
	o.Overlay = &Overlay{Network: netip.MustParsePrefix("10.200.0.0/16"), Subnet: netip.MustParsePrefix("10.200.1.0/24"), Addr: own, Device: device}
	for _, told := range []bool{false, true} {
		if told {
			o.HostAddrs = append(o.HostAddrs, HostAddr{netip.PrefixFrom(own, 32), device})
		}
		r := Compile(o, onDocker0(), newIDs())
		if got, ok := r.State.HostAddrs[bpf.AddrKey{Addr: bpf.Addr(own)}]; !ok || got.Ifindex != device || len(r.State.HostAddrs) != 4 {
			t.Errorf("the kernel told of it: %v: %+v among %d addresses", told, got, len(r.State.HostAddrs))
		}
	}
	o.Overlay.Addr = netip.Addr{}
	if r := Compile(machine(), onDocker0(), newIDs()); len(r.State.HostAddrs) != 3 {
		t.Errorf("%d addresses without an overlay", len(r.State.HostAddrs))
	}
}
