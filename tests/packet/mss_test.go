package packet

import (
	"fmt"
	"testing"
)

// The segment size that is announced, by the setting: both ways across networks, never between neighbours.
func TestSegmentSize(t *testing.T) {
	for _, tt := range []struct{ limit, announced, want uint16 }{{0, 9000, 9000}, {1300, 1460, 1300}, {1300, 536, 536}, {65535, 9000, 1460}} {
		t.Run(fmt.Sprintf("limit %d, announced %d", tt.limit, tt.announced), func(t *testing.T) {
			d := load(t, options{programs: []string{"from_container", "from_uplink"}, vars: map[string]any{"mss_limit": tt.limit}})
			d.change(t, publishWeb)
			out := tcp("172.17.0.2:40000", "192.0.2.10:80", "S").withMSS(tt.announced)
			d.expect(t, fromContainer("c1"), out, redirected("br0 out", out.from("198.51.100.1:40000").withMSS(tt.want).withTTL(63)))
			back := tcp("192.0.2.10:80", "198.51.100.1:40000", "SA").withMSS(tt.announced)
			d.expect(t, fromUplink("up0"), back, redirected("br0 out", back.to("172.17.0.2:40000").withMSS(tt.want).withTTL(63).macs(d.w.gateway("c1"))))
			in := tcp("192.0.2.10:5000", "198.51.100.1:8080", "S").withMSS(tt.announced)
			d.expect(t, fromUplink("up0"), in, redirected("br0 in", in.to("172.17.0.2:80").withMSS(tt.want).withTTL(63).macs(d.w.gateway("c1"))))
			local := tcp("172.17.0.2:40001", "172.17.0.3:80", "S").withMSS(tt.announced)
			d.expect(t, fromContainer("c1"), local, redirected("br0 local", local))
		})
	}
}
