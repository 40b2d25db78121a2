package observe

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// I-7: a device that had a default route has it still while it is down, and for a while after it is up again; one that never had is not
// given one, and a new device with an old one's number is not taken for it.
func TestLedBefore(t *testing.T) {
	const index = 7
	up, down := net.FlagUp, net.Flags(0)
	type look struct {
		after   time.Duration // since the last look
		gone    bool
		flags   net.Flags
		carrier netlink.LinkOperState
		route   bool
		want    bool
	}
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"never had one", []look{{flags: up}, {flags: down}, {flags: up}}},
		{"flaps", []look{{flags: up, route: true, want: true}, {after: time.Hour, flags: down, want: true}, {after: time.Hour, flags: down, want: true},
			{after: time.Second, flags: up, want: true}, {after: time.Second, flags: up, route: true, want: true}}},
		{"comes up without it", []look{{flags: up, route: true, want: true}, {flags: down, want: true}, {after: time.Second, flags: up, want: true},
			{after: comeback, flags: up}, {after: time.Second, flags: up}}},
		{"has no carrier", []look{{flags: up, route: true, want: true}, {after: time.Hour, flags: up, carrier: netlink.OperLowerLayerDown, want: true},
			{after: time.Hour, flags: up, carrier: netlink.OperDown, want: true}}},
		{"another with its number", []look{{flags: up, route: true, want: true}, {gone: true}, {flags: down}, {flags: up}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			led, now := ledBefore{}, time.Now()
			for i, l := range tt.looks {
				now = now.Add(l.after)
				var links []netlink.Link
				if !l.gone {
					links = append(links, &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index, Flags: l.flags, OperState: l.carrier}})
				}
				defaults := map[int]bool{}
				if l.route {
					defaults[index] = true
				}
				led.keep(links, defaults, now)
				if defaults[index] != l.want {
					t.Errorf("look %d: %v, want %v", i+1, defaults[index], l.want)
				}
			}
		})
	}
}
