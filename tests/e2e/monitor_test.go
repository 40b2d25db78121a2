package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// watcher is an `ebpfnet monitor -o json` that runs.
type watcher struct {
	cmd *exec.Cmd

	mu     sync.Mutex
	events []api.Event
	bad    string
}

// watch starts a monitor and waits until it listens.
func (s site) watch(t testing.TB, args ...string) *watcher {
	t.Helper()
	w := &watcher{cmd: s.Command(context.Background(), append([]string{"-o", "json", "monitor"}, args...)...)}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.start(t)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e api.Event
			err := json.Unmarshal(lines.Bytes(), &e)
			w.mu.Lock()
			w.events = append(w.events, e)
			if err != nil {
				w.bad = lines.Text()
			}
			w.mu.Unlock()
		}
	}()
	return w
}

// start runs the command until the test ends, and returns when it listens.
func (w *watcher) start(t testing.TB) {
	t.Helper()
	said, err := w.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.HasPrefix(line, "listening") {
		t.Fatalf("monitor says %q, %v", line, err)
	}
}

// stop ends it as ^C does.
func (w *watcher) stop() error {
	if w.cmd.ProcessState != nil {
		return nil
	}
	_ = w.cmd.Process.Signal(syscall.SIGINT)
	return w.cmd.Wait()
}

func (w *watcher) seen(match func(api.Event) bool) []api.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []api.Event
	for _, e := range w.events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// find waits for an event.
func (w *watcher) find(t testing.TB, what string, match func(api.Event) bool) api.Event {
	t.Helper()
	var found []api.Event
	lab.Eventually(t, lab.Patience, func() error {
		w.mu.Lock()
		bad, n := w.bad, len(w.events)
		w.mu.Unlock()
		if bad != "" {
			return fmt.Errorf("no JSON: %s", bad)
		}
		if found = w.seen(match); len(found) == 0 {
			return fmt.Errorf("no %s among %d events", what, n)
		}
		return nil
	})
	return found[0]
}

// L-1: every drop that a real packet can bring about is shown with its reason and the container's name; L-2: what passes is shown with both
// tuples, the program and the verdict.
func TestMonitor(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c, other := s.Run(t, "c", "-p", "8180:80"), s.Run(t, "other")
		s.Remote.Serve(t, "far", ":7000")
		drops, all := s.watch(t, "--drops"), s.watch(t, "--container", c.Name)
		filtered := s.watch(t, "--reason", "spoofed", "--proto", "udp", "--port", "7000", "--address", lab.RemoteIP+"/32")

		mac := c.NS.Device(t, "eth0").HardwareAddr
		own := lab.Way{SrcMAC: mac, DstMAC: s.gateway(t), Src: lab.AddrPort(c.IP.String(), 5015), Dst: lab.AddrPort(lab.RemoteIP, 7001)}
		wire := s.wire(t, lab.AddrPort(lab.RemoteIP, 4015), lab.AddrPort(lab.HostIP, 8180))
		with := func(w lab.Way, src, dst string) lab.Way {
			if src != "" {
				w.Src = lab.AddrPort(src, 5016)
			}
			if dst != "" {
				w.Dst = lab.AddrPort(dst, 80)
			}
			return w
		}
		syn := func(p *layers.TCP) { p.SYN = true }
		spoil := func(b []byte, at int, with byte) []byte { b[at] = with; return b }
		native := s.World == lab.Native
		type bad struct {
			reason, from, to string
			frame            []byte
			wire             bool
			only             bool // where nobody else's rules refuse it
		}
		table := []bad{
			{"truncated", c.Name, "", spoil(own.TCP(t, syn), 14+3, 250), false, false},
			{"ip_header", c.Name, "", spoil(own.TCP(t, syn), 14, 0x44), false, false},
			{"l4_header", c.Name, "", spoil(own.TCP(t, syn), 14+20+12, 4<<4), false, false},
			{"spoofed", c.Name, "", with(own, other.IP.String(), lab.RemoteIP).UDP(t, nil), false, false},
			{"loopback", c.Name, "", with(own, "", "127.0.0.1").UDP(t, nil), false, false},
			{"martian_source", c.Name, "", with(own, "224.1.1.1", "").UDP(t, nil), false, false},
			{"l4_header", "", "", spoil(wire.TCP(t, syn), 14+20+12, 4<<4), true, false},
			{"direct", "", c.Name, with(wire, "", c.IP.String()).UDP(t, nil), true, true},
		}
		for _, b := range table {
			if b.only && !native {
				continue
			}
			program := "from_container"
			if b.wire {
				program = "from_uplink"
				s.Router.Inject(t, "r0", b.frame)
			} else {
				c.NS.Inject(t, "eth0", b.frame)
			}
			drops.find(t, b.reason+" by "+program, func(e api.Event) bool {
				return e.Verdict == "drop" && e.Reason == b.reason && e.Program == program && e.From == b.from && e.To == b.to
			})
		}
		spoof(t, s, c, other, 1)
		filtered.find(t, "filtered event", func(e api.Event) bool { return e.From == c.Name && e.Original.DestinationPort == 7000 })
		if rest := filtered.seen(func(e api.Event) bool {
			return e.Reason != "spoofed" || e.Proto != "udp" || e.Original.DestinationPort != 7000 || e.Original.Destination != lab.RemoteIP
		}); len(rest) > 0 {
			t.Errorf("the filtered monitor also shows %+v", rest)
		}

		client := c.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000))
		client.Ask(t)
		local := client.Conn().LocalAddr().String()
		out := all.find(t, "packet out", func(e api.Event) bool {
			return e.Program == "from_container" && lab.At(e.Original.Source, int(e.Original.SourcePort)) == local && e.Verdict == "forward"
		})
		eq(t, "from", out.From, c.Name)
		eq(t, "translated source", out.Translated.Source, lab.HostIP)
		eq(t, "path", out.Path, "out")
		back := all.find(t, "answer", func(e api.Event) bool {
			return e.Program == "from_uplink" && lab.At(e.Translated.Destination, int(e.Translated.DestinationPort)) == local && e.Verdict == "forward"
		})
		eq(t, "to", back.To, c.Name)
		eq(t, "before", back.Original.Destination, lab.HostIP)
		eq(t, "device", back.Device, "up0")
		s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8180))
		in := all.find(t, "packet in", func(e api.Event) bool { return e.Original.DestinationPort == 8180 && e.Program == "from_uplink" })
		eq(t, "translated destination", lab.At(in.Translated.Destination, int(in.Translated.DestinationPort)), c.At(80))
		c.NS.Ping(t, 91).Send(t, "224.0.0.5", nil)
		all.find(t, "packet that is left to the kernel", func(e api.Event) bool { return e.Verdict == "pass" && e.Reason == "multicast" && e.From == c.Name })
		if rest := drops.seen(func(e api.Event) bool { return e.Verdict != "drop" }); len(rest) > 0 {
			t.Errorf("the monitor of drops also shows %+v", rest)
		}
		for _, w := range []*watcher{drops, all, filtered} {
			if err := w.stop(); err != nil {
				t.Errorf("^C ends it with %v", err)
			}
		}
	})
}

// L-5: a monitor that is killed leaves nothing on; another that runs goes on.
func TestMonitorIsKilled(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		c, other := s.Run(t, "c"), s.Run(t, "other")
		one, two := s.watch(t), s.watch(t, "--drops")
		eq(t, "who looks", s.Status(t).Monitors, 2)
		_ = one.cmd.Process.Kill()
		_ = one.cmd.Wait()
		gone := func(left int) {
			t.Helper()
			lab.Eventually(t, lab.Patience, func() error {
				if n := s.Status(t).Monitors; n != left {
					return fmt.Errorf("%d look, want %d", n, left)
				}
				return nil
			})
		}
		gone(1)
		spoof(t, s, c, other, 1)
		two.find(t, "drop", func(e api.Event) bool { return e.Reason == "spoofed" && e.From == c.Name })
		_ = two.cmd.Process.Kill()
		_ = two.cmd.Wait()
		gone(0)

		// An agent that ends says so to who looks.
		last := s.Command(context.Background(), "monitor")
		var said bytes.Buffer
		last.Stderr = &said
		if err := last.Start(); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, lab.Patience, func() error {
			if s.Status(t).Monitors != 1 {
				return fmt.Errorf("nobody looks")
			}
			return nil
		})
		s.Ebpfnet(t, "detach", "--all", "--yes")
		if err := last.Wait(); err == nil || !strings.Contains(said.String(), "the agent has ended") {
			t.Errorf("it ends with %v, %q", err, said.String())
		}
	})
}

// G-11: what monitor writes has the packets that a capture on the host's end of a veth misses; tshark reads it, with what was decided as comment.
func TestMonitorWritesPackets(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c, other := s.Run(t, "c"), s.Run(t, "other")
		s.Remote.Serve(t, "far", ":7000")
		file := filepath.Join(t.TempDir(), "packets.pcapng")
		w := &watcher{cmd: s.Command(context.Background(), "monitor", "--container", c.Name, "--pcap", file)}
		w.start(t)
		// To standard output, read by tshark as it comes.
		piped := &watcher{cmd: s.Command(context.Background(), "monitor", "--drops", "--container", c.Name, "--pcap", "-")}
		var stream bytes.Buffer
		piped.cmd.Stdout = &stream
		piped.start(t)
		spoof(t, s, c, other, 1)
		c.NS.Ask(t, "tcp", lab.At(lab.RemoteIP, 7000), lab.Size(1000))
		shark := func(stdin *bytes.Buffer, args ...string) []string {
			cmd := exec.Command("tshark", append(args, "-n", "-T", "fields", "-E", "separator=|", "-e", "frame.interface_name", "-e", "frame.len", "-e", "ip.src",
				"-e", "ip.dst", "-e", "frame.comment")...)
			if stdin != nil {
				cmd.Stdin = stdin
			}
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("tshark: %v: %s", err, said.String())
			}
			return strings.Split(strings.TrimSpace(string(out)), "\n")
		}
		has := func(rows []string, parts ...string) error {
			for _, row := range rows {
				if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(row, part) }) {
					return nil
				}
			}
			return fmt.Errorf("no packet with %q:\n%s", parts, strings.Join(rows, "\n"))
		}
		lab.Eventually(t, lab.Patience, func() error {
			rows := shark(nil, "-r", file)
			if err := has(rows, other.IP.String()+"|"+lab.RemoteIP, "drop spoofed by from_container", c.Name); err != nil {
				return err
			}
			if err := has(rows, lab.HostIP+"|"+lab.RemoteIP, "forward by from_container", c.Name+" to -", " as "+lab.HostIP); err != nil {
				return err
			}
			return has(rows, "up0|", lab.RemoteIP+"|"+c.IP.String(), "forward by from_uplink", "- to "+c.Name)
		})
		for _, w := range []*watcher{w, piped} {
			if err := w.stop(); err != nil {
				t.Error(err)
			}
		}
		rows := shark(&stream, "-r", "-")
		if err := has(rows, "drop spoofed"); err != nil || len(rows) != 1 {
			t.Errorf("%d packets on standard output, %v", len(rows), err)
		}
	})
}

// Bad filters end with one line that says what there is.
func TestMonitorBadInput(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		for _, b := range []struct {
			args []string
			code int
			say  []string
		}{
			{[]string{"--container", "nosuch"}, 1, []string{"nosuch", c.Name}},
			{[]string{"--reason", "nosuch"}, 2, []string{"nosuch", "spoofed", "multicast"}},
			{[]string{"--proto", "nosuch"}, 2, []string{"nosuch", "tcp"}},
			{[]string{"--port", "70000"}, 2, []string{"70000"}},
			{[]string{"--address", "here"}, 2, []string{"here"}},
			{[]string{"--pcap", "/nonexistent/file"}, 1, []string{"/nonexistent/file"}},
		} {
			o := s.Try(t, append([]string{"monitor"}, b.args...)...)
			eq(t, strings.Join(b.args, " ")+": exit code", o.Code, b.code)
			oneLine(t, o, b.say...)
		}
	})
}
