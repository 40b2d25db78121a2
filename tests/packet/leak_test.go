package packet

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// testLeaks: whatever has a container's address as its source, and has got as far as an uplink without us, leaves translated or not at all.
// Netfilter lets out what its connection tracking calls invalid.
func testLeaks(t *testing.T, d *datapath) {
	const inside, outside, far = "172.17.0.2:40000", "198.51.100.1:40000", "192.0.2.10:80"
	up := toUplink("up0")
	for _, c := range []struct {
		name    string
		in      frame
		reason  string // of the drop; "": it leaves translated
		outside frame
	}{
		{"a SYN", tcp(inside, far, "S"), "", tcp(outside, far, "S")},
		{"TCP of no connection", tcp(inside, far, "A"), "", tcp(outside, far, "A")},
		{"a SYN and acknowledgement of no connection", tcp(inside, far, "SA"), "", tcp(outside, far, "SA")},
		{"a FIN of no connection", tcp(inside, far, "FA"), "", tcp(outside, far, "FA")},
		{"a reset of no connection", tcp(inside, far, "R"), "", tcp(outside, far, "R")},
		{"TCP without flags", tcp(inside, far, ""), "", tcp(outside, far, "")},
		{"TCP with all flags", tcp(inside, far, "SFRPA"), "", tcp(outside, far, "SFRPA")},
		{"TCP with a short header", tcp(inside, far, "A").put8(atIP+20+12, 0x10), "l4_header", frame{}},
		{"TCP that ends in its header", tcp(inside, far, "A").edit(func(b []byte) []byte { return b[:14+20+12] }).put16(atIP+2, 32).refresh(), "truncated", frame{}},
		{"UDP", udp(inside, far), "", udp(outside, far)},
		{"UDP with a length that is too long", udp(inside, far).put16(atIP+20+4, 999), "l4_header", frame{}},
		{"UDP without checksum", udp(inside, far).noChecksum(), "", udp(outside, far).noChecksum()},
		{"a ping", echo("172.17.0.2", "192.0.2.10", 7), "", echo("198.51.100.1", "192.0.2.10", 7)},
		{"an answer to no ping", echoReply("172.17.0.2", "192.0.2.10", 7), "icmp_error", frame{}},
		{"an error about nothing", icmpError("172.17.0.2", "192.0.2.10", unreachable, portClosed, 0, udp(far, inside), shortQuote), "icmp_error", frame{}},
		{"a redirect", icmpError("172.17.0.2", "192.0.2.10", 5, 1, 0, udp(far, inside), shortQuote), "icmp_error", frame{}},
		{"an ICMP type that nobody knows", icmp("172.17.0.2", "192.0.2.10", 77, 0), "icmp_error", frame{}},
		{"SCTP", sctp(inside, far), "", sctp(outside, far)},
		{"GRE", portless("gre", "172.17.0.2", "192.0.2.10"), "", portless("gre", "198.51.100.1", "192.0.2.10")},
		{"ESP", portless("esp", "172.17.0.2", "192.0.2.10"), "", portless("esp", "198.51.100.1", "192.0.2.10")},
		{"a protocol that nobody knows", portless("gre", "172.17.0.2", "192.0.2.10").put8(atIP+9, 253).refresh(), "",
			portless("gre", "198.51.100.1", "192.0.2.10").put8(atIP+9, 253).refresh()},
		{"a piece whose first was never seen", udp(inside, far).data(make([]byte, 3000)).pieces(1400)[1], "fragment", frame{}},
	} {
		t.Run("leak: "+c.name, func(t *testing.T) {
			d.reset(t)
			want := dropped(c.reason)
			if c.reason == "" {
				want = stacked("br0 out", c.outside)
			}
			d.expect(t, up, c.in, want)
			d.expectPairs(t)
		})
		t.Run("leak: "+c.name+", where nothing is hidden", func(t *testing.T) {
			d.reset(t)
			d.change(t, func(s *state.State) { d.w.setBridge(s, "br0", 0, bpf.DatapathBridgeFlagBRIDGE_MASQUERADE) })
			d.expect(t, up, c.in, unseen())
		})
	}
}

// testLastHop: G-1, H-11: what its TTL or its size keeps from going on is the kernel's to answer. It gets there as what the container would
// see, never as something for the host itself, where somebody else listens on the port; and never goes on to the wire as it is.
func testLastHop(t *testing.T, d *datapath) {
	left := func(f frame) outcome { return outcome{verdictNext, &f, "pass ttl"} }
	published := func(s *state.State) {
		for _, proto := range []string{"tcp", "udp"} {
			publish(s, proto, "0.0.0.0:8080", "172.17.0.2:53")
		}
	}
	for _, mk := range []func(src, dst string) frame{udp, func(src, dst string) frame { return tcp(src, dst, "S") }} {
		for _, c := range []struct {
			name     string
			hook     hook
			src, dst string
			to       string // as the kernel sees it
		}{
			{"a neighbour's published port", fromContainer("c2"), "172.17.0.3:40000", "198.51.100.1:8080", "172.17.0.2:53"},
			{"its own published port", fromContainer("c1"), "172.17.0.2:40000", "198.51.100.1:8080", "172.17.0.2:53"},
			{"its own published port, by the gateway", fromContainer("c1"), "172.17.0.2:40000", "172.17.0.1:8080", "172.17.0.2:53"},
			{"a stranger to a published port", fromBridge("br0"), "172.17.0.9:40000", "198.51.100.1:8080", "172.17.0.2:53"},
			{"from outside", fromUplink("up0"), "192.0.2.10:40000", "198.51.100.1:8080", "172.17.0.2:53"},
			{"a container outwards", fromContainer("c1"), "172.17.0.2:40000", "192.0.2.10:53", "192.0.2.10:53"},
			{"a stranger outwards", fromBridge("br0"), "172.17.0.9:40000", "192.0.2.10:53", "192.0.2.10:53"},
		} {
			t.Run("H-11 the last hop, "+c.name, func(t *testing.T) {
				d.reset(t)
				d.change(t, published)
				for range 2 {
					f := mk(c.src, c.dst).withTTL(1)
					d.expect(t, c.hook, f, left(f.to(c.to)))
				}
				d.expectPairs(t)
			})
		}
	}
}
