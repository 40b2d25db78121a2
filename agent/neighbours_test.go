package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/policy"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// routedHosts is a kernel that reaches the even hosts by device 7 without a router, and counts the questions.
type routedHosts struct {
	noOverlay
	mark  uint64
	asked int
}

func (h *routedHosts) RoutesMark() (uint64, error) { return h.mark, nil }

func (h *routedHosts) Near(hosts []netip.Addr) (map[netip.Addr]int, error) {
	h.asked += len(hosts)
	near := map[netip.Addr]int{}
	for _, a := range hosts {
		if a.As4()[3]%2 == 0 {
			near[a] = 7
		}
	}
	return near, nil
}

// overlay S1, overlay D3: of many hosts only the new one is asked for, and all of them again when the kernel's routes are others.
func TestNeighbours(t *testing.T) {
	kernel := &routedHosts{mark: 1}
	var n neighbours
	for _, step := range []struct {
		name  string
		mark  uint64
		hosts []byte
		asked int // questions that this takes
	}{
		{"the first ones", 1, []byte{1, 2, 3, 4}, 4},
		{"the same", 1, []byte{1, 2, 3, 4}, 0},
		{"one more", 1, []byte{1, 2, 3, 4, 6}, 1},
		{"one fewer", 1, []byte{1, 3, 4, 6}, 0},
		{"it is back", 1, []byte{1, 2, 3, 4, 6}, 1},
		{"other routes", 2, []byte{1, 2, 3, 4, 6}, 5},
		{"nobody", 2, nil, 0},
	} {
		kernel.mark, kernel.asked = step.mark, 0
		v := &policy.Overlay{}
		wantNear, wantDevices := map[netip.Addr]bool{}, map[netip.Addr]int{}
		for _, h := range step.hosts {
			a := netip.AddrFrom4([4]byte{198, 18, 0, h})
			v.Peers = append(v.Peers, overlay.Peer{Public: a})
			if wantNear[a] = h%2 == 0; wantNear[a] {
				wantDevices[a] = 7
			}
		}
		if err := n.find(kernel, v); err != nil {
			t.Fatal(err)
		}
		if kernel.asked != step.asked {
			t.Errorf("%s: the kernel is asked for %d hosts, want %d", step.name, kernel.asked, step.asked)
		}
		if diff := cmp.Diff(wantNear, v.Near, cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(wantDevices, n.devices, cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("%s, devices (-want +got):\n%s", step.name, diff)
		}
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }
