package packet

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// letIn watches what a device lets in, and returns what gives the frames with one IP id that came since.
func (d *datapath) letIn(t *testing.T, dev string) func(id uint16, want int) [][]byte {
	t.Helper()
	const all = unix.ETH_P_ALL&0xff<<8 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: int(d.w.devices[dev].index)}); err != nil {
		t.Fatal(err)
	}
	return func(id uint16, want int) (frames [][]byte) {
		buf := make([]byte, 4096)
		for deadline := time.Now().Add(5 * time.Second); len(frames) < want && time.Now().Before(deadline); {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			if ll := from.(*unix.SockaddrLinklayer); ll.Pkttype != unix.PACKET_OUTGOING && n > 34 && uint16(buf[18])<<8|uint16(buf[19]) == id {
				frames = append(frames, bytes.Clone(buf[:n]))
			}
		}
		return frames
	}
}

// testHeldPieces: C-3: pieces that come before the first are kept; when it comes, it is let in again, and they behind it. Then they are
// carried as those of any datagram.
func testHeldPieces(t *testing.T, d *datapath) {
	payload := make([]byte, 4000)
	for i := range payload {
		payload[i] = byte(11 * i)
	}
	for _, c := range []struct {
		name    string
		change  func(*state.State)
		hook    hook
		in, out frame
		want    func(f frame) outcome
	}{
		{
			"out", nil, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"), udp("198.51.100.1:5000", "192.0.2.10:53").withTTL(63),
			func(f frame) outcome { return redirected("br0 out", f) },
		},
		{
			"out, over Docker's rules", d.w.overRules, fromContainer("c1"), udp("172.17.0.2:5000", "192.0.2.10:53"),
			udp("198.51.100.1:5000", "192.0.2.10:53").withTTL(63), func(f frame) outcome { return redirected("br0 out", f) },
		},
		{
			"in", publishWeb, fromUplink("up0"), udp("192.0.2.10:5000", "198.51.100.1:8080"),
			udp("192.0.2.10:5000", "172.17.0.2:53").withTTL(63).macs(d.w.gateway("c1")), func(f frame) outcome { return redirected("br0 in", f) },
		},
		{
			"in, to the host", nil, fromUplink("up0"), udp("192.0.2.10:5000", "198.51.100.1:8080"), udp("192.0.2.10:5000", "198.51.100.1:8080"),
			func(f frame) outcome {
				if f.fragment&0x1fff != 0 {
					return passed("fragment")
				}
				return passed("not_ours")
			},
		},
		{
			"between neighbours", nil, fromContainer("c1"), udp("172.17.0.2:5000", "172.17.0.3:53"), udp("172.17.0.2:5000", "172.17.0.3:53"),
			func(f frame) outcome { return redirected("br0 local", f) },
		},
	} {
		for _, order := range [][]int{{2, 1, 0}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}} {
			t.Run(fmt.Sprintf("C-3 %s %v", c.name, order), func(t *testing.T) {
				d.reset(t)
				if c.change != nil {
					d.change(t, c.change)
				}
				in, out := c.in.data(payload).pieces(1480), c.out.data(payload).pieces(1480)
				letIn := d.letIn(t, c.hook.dev)
				first := slices.Index(order, 0)
				for _, i := range order[:first] {
					d.expect(t, c.hook, in[i], kept())
				}
				before := d.tallies(t)
				if r := d.send(t, c.hook, in[0]); r.verdict != verdictDrop {
					t.Errorf("the first piece: verdict is %d", r.verdict)
				}
				if n := d.tallies(t)[bpf.DatapathTallyTALLY_FRAGMENT_RELEASED] - before[bpf.DatapathTallyTALLY_FRAGMENT_RELEASED]; n != uint64(first) {
					t.Errorf("%d pieces released, want %d", n, first)
				}
				d.expect(t, c.hook, in[0], c.want(out[0]))
				came := append([]int{0}, order[:first]...)
				frames := letIn(ipID(in[0]), len(came))
				if len(frames) != len(came) {
					t.Fatalf("%d frames let in again, want %d", len(frames), len(came))
				}
				for n, i := range came {
					if want := d.w.addressed(c.hook, in[i]).bytes(); !bytes.Equal(frames[n], want) {
						t.Errorf("let in again\n%s\nwant\n%s", describe(frames[n]), describe(want))
					}
				}
				for _, i := range append(came[1:], order[first+1:]...) {
					d.expect(t, c.hook, in[i], c.want(out[i]))
				}
			})
		}
	}
	t.Run("C-3 a piece that comes before the first is in again goes round", func(t *testing.T) {
		d.reset(t)
		in := udp("172.17.0.2:5000", "192.0.2.10:53").data(payload).pieces(1480)
		d.send(t, fromContainer("c1"), in[2])
		d.send(t, fromContainer("c1"), in[0])
		const rounds = 64
		for i := range rounds {
			if r := d.send(t, fromContainer("c1"), in[1]); r.verdict != verdictRedirect {
				t.Fatalf("time %d: verdict is %d", i, r.verdict)
			}
		}
		d.expect(t, fromContainer("c1"), in[1], dropped("fragment_order"))
	})
	t.Run("C-3 more pieces than a datagram has", func(t *testing.T) {
		d.reset(t)
		in := udp("172.17.0.2:5000", "192.0.2.10:53").data(make([]byte, 800)).pieces(8)
		const most = 48
		for i := 1; i <= most; i++ {
			d.expect(t, fromContainer("c1"), in[i], kept())
		}
		d.expect(t, fromContainer("c1"), in[most+1], dropped("fragment_order"))
	})
	t.Run("C-3 a piece that is longer than any frame of Ethernet", func(t *testing.T) {
		d.reset(t)
		in := udp("172.17.0.2:5000", "192.0.2.10:53").data(make([]byte, 8000)).pieces(2040)
		d.expect(t, fromContainer("c1"), in[1], dropped("fragment_order"))
	})
	t.Run("C-8 G-5 nobody adds to another's datagram", func(t *testing.T) {
		d.reset(t)
		in := udp("172.17.0.2:5000", "192.0.2.10:53").data(payload).pieces(1480)
		d.expect(t, fromContainer("c1"), in[1], kept())
		d.expect(t, fromContainer("c2"), in[2], dropped("spoofed"))
		d.expect(t, fromContainer("c2"), in[0], dropped("spoofed"))
		if r := d.send(t, fromContainer("c1"), in[0]); r.verdict != verdictDrop {
			t.Errorf("the first piece: verdict is %d", r.verdict)
		}
	})
}

// ipID is the IP id of a frame.
func ipID(f frame) uint16 {
	b := f.bytes()
	return uint16(b[18])<<8 | uint16(b[19])
}
