package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// decision is what trace foretells and monitor then tells of the real packet.
type decision struct {
	Verdict, Reason, Path, Out string
	Original, Translated       api.Tuple
}

// What trace says is what becomes of the packet when it is sent: verdict, reason, tuples, the port that it leaves with, the device. And trace
// itself changes nothing: no flow, no counter (L-2).
func TestTraceForetells(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c, web := s.Run(t, "c"), s.Run(t, "web", "-p", "8280:80", "-p", "8280:80/udp")
		network, _ := s.attachNetwork(t, "elsewhere", "--subnet", "10.66.9.0/24")
		elsewhere := s.Run(t, "elsewhere", "--network", network)
		s.Remote.Serve(t, "far", ":7000")
		s.Router.IP(t, "route add "+lab.BridgeNet+" via "+lab.HostIP)
		t.Cleanup(func() { s.Router.IP(t, "route del "+lab.BridgeNet) })
		w := s.watch(t)
		mac := func(of *lab.Container) []byte { return of.NS.Device(t, "eth0").HardwareAddr }
		syn := func(p *layers.TCP) { p.SYN = true }
		// A flow that holds the port which c would like to leave with.
		web.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(lab.At(web.IP.String(), 5903)))

		type packet struct {
			name    string
			from    string // c, wire
			src     string // another than c's own
			sport   int
			to      string // address:port/proto
			ttl     uint8
			gateway bool // c addresses its frame to the gateway
			moved   bool // leaves with a port that is drawn
			flow    string
			program string // whose word is the last
		}
		cases := []packet{
			{"out, udp", "c", "", 5901, lab.RemoteIP + ":7000/udp", 0, true, false, "new", "from_container"},
			{"out, udp, known", "c", "", 5901, lab.RemoteIP + ":7000/udp", 0, true, false, "known", "from_container"},
			{"out, tcp", "c", "", 5902, lab.RemoteIP + ":7000", 0, true, false, "new", "from_container"},
			{"out, tcp, by the other uplink", "c", "", 5902, lab.RemoteBy1 + ":7000", 0, true, false, "new", "from_container"},
			{"out, its port taken", "c", "", 5903, lab.RemoteIP + ":7000/udp", 0, true, true, "new", "from_container"},
			{"out, icmp", "c", "", 5904, lab.RemoteIP + "/icmp", 0, true, false, "new", "from_container"},
			{"out, its time spent", "c", "", 5905, lab.RemoteIP + ":7000/udp", 1, true, false, "new", "from_container"},
			{"neighbour", "c", "", 5906, web.At(80), 0, false, false, "new", "from_container"},
			{"neighbour whom nobody knows", "c", "", 5907, "172.17.77.77:80/udp", 0, false, false, "", "from_container"},
			{"published, from a container", "c", "", 5908, lab.HostIP + ":8280", 0, true, false, "new", "from_container"},
			{"the host", "c", "", 5909, lab.GatewayIP + ":7009/udp", 0, true, false, "new", "from_container"},
			{"another bridge's container", "c", "", 5910, elsewhere.At(80), 0, true, false, "", "from_container"},
			{"another's address", "c", web.IP.String(), 5911, lab.RemoteIP + ":7000/udp", 0, true, false, "", "from_container"},
			{"loopback", "c", "", 5912, "127.0.0.1:80", 0, true, false, "", "from_container"},
			{"multicast", "c", "", 5913, "224.0.0.5:80/udp", 0, true, false, "", "from_container"},
			{"published, tcp", "wire", lab.RemoteIP, 5914, lab.HostIP + ":8280", 0, false, false, "new", "from_uplink"},
			{"published, udp", "wire", lab.RemoteIP, 5915, lab.HostIP + ":8280/udp", 0, false, false, "new", "from_uplink"},
			{"published, time spent", "wire", lab.RemoteIP, 5916, lab.HostIP + ":8280/udp", 1, false, false, "new", "from_uplink"},
			{"not published", "wire", lab.RemoteIP, 5917, lab.HostIP + ":8279/udp", 0, false, false, "", "from_uplink"},
			{"martian", "wire", "127.0.0.5", 5918, lab.HostIP + ":8280/udp", 0, false, false, "", "from_uplink"},
		}
		if s.World == lab.Native {
			cases = append(cases, packet{"by its own address", "wire", lab.RemoteIP, 5919, c.IP.String() + ":80/udp", 0, false, false, "", "from_uplink"})
		}
		for _, p := range cases {
			t.Run(p.name, func(t *testing.T) {
				args := []string{"trace", "--to", p.to, "--sport", fmt.Sprint(p.sport), "--ttl", fmt.Sprint(p.ttl)}
				src := c.IP.String()
				if p.src != "" {
					src = p.src
					args = append(args, "--from-addr", p.src)
				}
				if p.from == "c" {
					args = append(args, "--from", c.Name)
				} else {
					args = append(args, "--from", "wire", "--uplink", "up0")
				}
				unchanged := func() (flows []api.Flow, counters []api.EndpointCounters) {
					for _, of := range []*lab.Container{c, web} {
						counters = append(counters, s.Endpoint(t, of.IP).Counters)
					}
					return s.Flows(t, "--container", c.Name), counters
				}
				flows, counters := unchanged()
				var said api.Trace
				s.JSON(t, &said, args...)
				flowsAfter, countersAfter := unchanged()
				// Others end meanwhile; none begins, and none has had a packet.
				for _, f := range flowsAfter {
					i := slices.IndexFunc(flows, func(was api.Flow) bool {
						return was.Proto == f.Proto && was.Original == f.Original && was.Translated == f.Translated && was.Packets == f.Packets
					})
					if i < 0 {
						t.Errorf("trace has made or used a flow: %+v", f)
					}
				}
				if diff := cmp.Diff(counters, countersAfter); diff != "" {
					t.Errorf("trace counts (-before +after):\n%s", diff)
				}
				eq(t, "flow", said.Flow, p.flow)

				target, proto, _ := strings.Cut(p.to, "/")
				dst, err := netip.ParseAddrPort(target)
				if err != nil {
					dst = netip.AddrPortFrom(netip.MustParseAddr(target), 0)
				}
				way := s.wire(t, lab.AddrPort(src, p.sport), dst)
				if p.from == "c" {
					way.SrcMAC, way.DstMAC = mac(c), s.gateway(t)
					switch {
					case dst.Addr() == web.IP:
						way.DstMAC = mac(web)
					case !p.gateway:
						way.DstMAC = []byte{2, 0, 0, 0, 0, 0xfe}
					}
				}
				way.TTL = p.ttl
				var frame []byte
				switch proto {
				case "udp":
					frame = way.UDP(t, nil)
				case "icmp":
					frame = way.Echo(t, uint16(p.sport), 1, nil)
				default:
					frame = way.TCP(t, syn)
				}
				before := len(w.seen(func(api.Event) bool { return true }))
				if p.from == "c" {
					c.NS.Inject(t, "eth0", frame)
				} else {
					s.Router.Inject(t, "r0", frame)
				}
				var real api.Event
				lab.Eventually(t, lab.Patience, func() error {
					all := w.seen(func(api.Event) bool { return true })
					for _, e := range all[before:] {
						if e.Program == p.program && e.Original == said.Original {
							real = e
							return nil
						}
					}
					return fmt.Errorf("the packet is not seen; trace says %+v", said)
				})
				want := decision{real.Verdict, real.Reason, real.Path, "", real.Original, real.Translated}
				got := decision{said.Verdict, said.Reason, said.Path, "", said.Original, said.Translated}
				if said.Verdict == "forward" && said.Device != "" {
					want.Out, got.Out = real.Out, said.Device
				}
				if p.moved {
					for _, port := range []*uint16{&want.Translated.SourcePort, &got.Translated.SourcePort} {
						if *port == uint16(p.sport) {
							t.Errorf("it leaves with its own port, which is taken")
						}
						*port = 0
					}
				}
				if step, told := policyStep(said); told != (said.Flow == "new" || slices.Contains([]string{"isolated", "spoofed", "loopback", "direct"}, said.Reason)) {
					t.Errorf("flow %q, verdict %s %s: policy %q", said.Flow, said.Verdict, said.Reason, step)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("trace foretells otherwise (-real +foretold):\n%s\n%+v", diff, said.Steps)
				}
			})
		}
	})
}

// policyStep is what lets the packet pass, or forbids it.
func policyStep(said api.Trace) (string, bool) {
	for _, step := range said.Steps {
		if step.Step == "policy" {
			return step.Fact, true
		}
	}
	return "", false
}

// The host's own packets: by the socket programs to a published port, down a bridge, and out of an uplink, where nobody has a say.
func TestTraceFromHost(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web := s.Run(t, "web", "-p", "8281:80")
		for _, p := range []struct {
			to      string
			verdict string
			says    []string
		}{
			{lab.HostIP + ":8281", "forward", []string{"published", "sock", "to_bridge", web.Name}},
			{web.At(80), "forward", []string{"to_bridge", web.Name}},
			{lab.RemoteIP + ":7000", "", []string{"to_uplink", "no say", "up0"}},
			{lab.HostIP + ":8282", "", []string{"the host itself"}},
		} {
			out := s.Ebpfnet(t, "trace", "--from", "host", "--to", p.to)
			for _, word := range p.says {
				if !strings.Contains(out, word) {
					t.Errorf("to %s: no %q in\n%s", p.to, word, out)
				}
			}
			var said api.Trace
			s.JSON(t, &said, "trace", "--from", "host", "--to", p.to)
			eq(t, "verdict to "+p.to, said.Verdict, p.verdict)
		}
	})
}

func TestTraceBadInput(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		c := s.Run(t, "c")
		for _, b := range []struct {
			args []string
			code int
			say  []string
		}{
			{[]string{"--to", "192.0.2.1:80"}, 2, []string{"--from"}},
			{[]string{"--from", "host"}, 2, []string{"--to"}},
			{[]string{"--from", "nosuch", "--to", "192.0.2.1:80"}, 1, []string{"nosuch", c.Name}},
			{[]string{"--from", "host", "--to", "nosuch:80"}, 1, []string{"nosuch", c.Name}},
			{[]string{"--from", c.Name, "--to", "192.0.2.1"}, 2, []string{"port"}},
			{[]string{"--from", c.Name, "--to", "192.0.2.1:80/nosuch"}, 2, []string{"nosuch", "tcp"}},
			{[]string{"--from", c.Name, "--to", "192.0.2.1:70000"}, 2, []string{"70000"}},
			{[]string{"--from", c.Name, "--to", "192.0.2.1:80/icmp"}, 2, []string{"icmp"}},
			{[]string{"--from", "wire", "--from-addr", "somebody", "--to", "192.0.2.1:80"}, 2, []string{"somebody"}},
			{[]string{"--from", "wire", "--from-addr", lab.RemoteIP, "--uplink", "nosuch", "--to", "192.0.2.1:80"}, 1, []string{"nosuch", "up0"}},
		} {
			o := s.Try(t, append([]string{"trace"}, b.args...)...)
			eq(t, strings.Join(b.args, " ")+": exit code", o.Code, b.code)
			oneLine(t, o, b.say...)
		}
	})
}
