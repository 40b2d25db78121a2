package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// looked is one object that `ebpfnet top -o json` prints.
type looked struct {
	Seconds   float64
	Endpoints []struct {
		Name            string
		ReceiveBytes    float64 `json:"receive_bytes"`
		TransmitBytes   float64 `json:"transmit_bytes"`
		ReceivePackets  float64 `json:"receive_packets"`
		TransmitPackets float64 `json:"transmit_packets"`
		Drops           float64
		Flows           int
	}
	Drops []struct {
		Reason string
		Rate   float64
	}
}

// Rates are exact: over the looks that a known sender's packets fall into, rate times time is what it sent, to the packet and the byte.
func TestTopCountsASender(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		from, to := s.Run(t, "from"), s.Run(t, "to")
		conn := from.NS.ListenUDP(t, ":0")
		to.NS.ListenUDP(t, ":4242") // takes them without an answer
		target := netip.AddrPortFrom(to.IP, 4242)

		ctx, cancel := context.WithCancel(t.Context())
		cmd := s.Command(ctx, "-o", "json", "top", "--interval", "300ms")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		var mu sync.Mutex
		var looks []looked
		go func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var l looked
				if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
					t.Errorf("%v: %s", err, lines.Text())
					return
				}
				mu.Lock()
				looks = append(looks, l)
				mu.Unlock()
			}
		}()
		seen := func() []looked {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(looks)
		}
		lab.Eventually(t, lab.Patience, func() error {
			if len(seen()) == 0 {
				return fmt.Errorf("nothing is printed")
			}
			return nil
		})
		// sum is what the looks say of a container: packets received and their bytes, packets sent, drops.
		sum := func(name string) (rx, rxBytes, tx, drops float64) {
			for _, l := range seen() {
				for _, e := range l.Endpoints {
					if e.Name == name {
						rx += e.ReceivePackets * l.Seconds
						rxBytes += e.ReceiveBytes * l.Seconds
						tx += e.TransmitPackets * l.Seconds
						drops += e.Drops * l.Seconds
					}
				}
			}
			return rx, rxBytes, tx, drops
		}
		const packets, payload = 1000, 500
		for range packets {
			if _, err := conn.WriteToUDPAddrPort(make([]byte, payload), target); err != nil {
				t.Fatal(err)
			}
		}
		spoof(t, s, from, to, 7)
		lab.Eventually(t, lab.Patience, func() error {
			if rx, _, _, _ := sum(to.Name); rx < packets-0.5 {
				return fmt.Errorf("%g packets so far", rx)
			}
			if _, _, _, drops := sum(from.Name); drops < 6.5 {
				return fmt.Errorf("%g drops so far", drops)
			}
			return nil
		})
		n := len(seen())
		lab.Eventually(t, lab.Patience, func() error {
			if len(seen()) == n {
				return fmt.Errorf("no look after the last")
			}
			return nil
		})
		rx, bytes, _, _ := sum(to.Name)
		_, _, tx, drops := sum(from.Name)
		for what, pair := range map[string][2]float64{
			"packets received": {rx, packets}, "bytes received": {bytes, packets * (payload + 8 + 20 + 14)}, "packets sent": {tx, packets}, "drops": {drops, 7},
		} {
			if math.Abs(pair[0]-pair[1]) > 0.01 {
				t.Errorf("%s: %g, want %g", what, pair[0], pair[1])
			}
		}
		last := seen()[len(seen())-1]
		if i := slices.IndexFunc(last.Drops, func(d struct {
			Reason string
			Rate   float64
		}) bool {
			return d.Reason == "spoofed"
		}); i < 0 {
			t.Errorf("no reason of the drops: %+v", last.Drops)
		}
		for _, e := range last.Endpoints {
			if e.Name == to.Name && e.Flows != 1 {
				t.Errorf("%d flows, want 1", e.Flows)
			}
		}
	})
}

// top draws on a terminal, hears its keys and gives it back; on one that cannot be drawn on, and in a pipe, it prints tables.
func TestTopOnATerminal(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		once := s.Ebpfnet(t, "top", "--once", "--interval", "200ms")
		if !strings.Contains(once, c.Name) || !strings.HasPrefix(once, "ebpfnet "+s.Instance.Name) || strings.Contains(once, "\x1b") {
			t.Errorf("printed once: %q", once)
		}
		var look looked
		s.JSON(t, &look, "top", "--once", "--interval", "200ms")
		if look.Seconds < 0.1 || len(look.Endpoints) == 0 {
			t.Errorf("as JSON: %+v", look)
		}

		cmd := s.Command(t.Context(), "top", "--interval", "200ms")
		cmd.Env = append(os.Environ(), "TERM=vt100")
		p := lab.StartOnTerminal(t, cmd, 24, 60)
		before := p.Settings(t)
		shows := func(text string) {
			t.Helper()
			lab.Eventually(t, lab.Patience, func() error {
				if !strings.Contains(p.Drawn(), text) {
					return fmt.Errorf("%q is not drawn: %q", text, p.Drawn())
				}
				return nil
			})
		}
		shows(c.Name)
		shows("by bytes")
		p.Type(t, "n")
		shows("by name")
		p.Type(t, "d")
		shows("by drops")
		p.Type(t, "q")
		if err := cmd.Wait(); err != nil {
			t.Errorf("q ends it with %v", err)
		}
		shows("\x1b[?1049l")
		if after := p.Settings(t); after.Lflag&(unixEcho|unixCanon) != unixEcho|unixCanon {
			t.Errorf("the terminal is left otherwise: %x, before %x", after.Lflag, before.Lflag)
		}
		// The cursor goes home where a new picture begins.
		for line := range strings.SplitSeq(strings.ReplaceAll(p.Drawn(), "\x1b[H", "\r\n"), "\r\n") {
			if text := escapes(line); len([]rune(text)) > 60 {
				t.Errorf("a line is longer than the screen: %q", text)
			}
		}

		dumb := s.Command(t.Context(), "top", "--interval", "200ms")
		dumb.Env = append(os.Environ(), "TERM=dumb")
		p = lab.StartOnTerminal(t, dumb, 24, 60)
		lab.Eventually(t, lab.Patience, func() error {
			if strings.Count(p.Drawn(), c.Name) < 2 {
				return fmt.Errorf("not printed twice: %q", p.Drawn())
			}
			return nil
		})
		p.Type(t, "\x03") // ^C
		if err := dumb.Wait(); err != nil || strings.Contains(p.Drawn(), "\x1b") {
			t.Errorf("on a dumb terminal: %v, %q", err, p.Drawn())
		}
	})
}

// Flags of a terminal that shows what is typed and waits for whole lines.
const unixEcho, unixCanon = unix.ECHO, unix.ICANON

// escapes takes the control sequences off a drawn line.
func escapes(line string) string {
	return regexp.MustCompile(`\x1b\[[?0-9;]*[A-Za-z]`).ReplaceAllString(line, "")
}
