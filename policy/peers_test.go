package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
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

// While the host has IPsec policies for what leaves, the kernel wraps what it can; what it cannot is a problem.
func TestIPsecBetweenHosts(t *testing.T) {
	for _, kind := range []overlay.Kind{overlay.VXLAN, overlay.UDP} {
		for _, ipsec := range []bool{false, true} {
			o := machine()
			o.IPsec = ipsec
			o.Overlay = &Overlay{Kind: kind, Network: netip.MustParsePrefix("10.200.0.0/16"), Subnet: netip.MustParsePrefix("172.17.0.0/16"), Device: 40}
			r := Compile(o, onDocker0(), newIDs())
			if kernel := r.State.Overlay.Flags&bpf.DatapathOverlayFlagOVERLAY_KERNEL != 0; kernel != ipsec {
				t.Errorf("%v, IPsec %v: the kernel wraps: %v", kind, ipsec, kernel)
			}
			if problem := slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, "IPsec") }); problem != (ipsec && kind == overlay.UDP) {
				t.Errorf("%v, IPsec %v: problems %q", kind, ipsec, r.Problems)
			}
		}
	}
}
