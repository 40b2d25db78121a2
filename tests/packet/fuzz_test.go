package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	state "github.com/ebpfnet/ebpfnet/maps"
)

// hooks lists every program on a device where it belongs.
func hooks() []hook {
	return []hook{
		fromContainer("c1"), fromUplink("up0"), fromBridge("br0"), toBridge("br0"), toUplink("up0"), toContainer("c1"), fromContainer("s1"),
		fromOverlay("lan0"), toOverlay("lan0"),
	}
}

// FuzzPrograms puts bytes through every program, in a world with a flow of each kind. `go test` runs the seeds alone.
func FuzzPrograms(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	d := load(f, options{wrap: wrap})
	d.change(f, publishWeb)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < atIP || len(data) > 3000 {
			return
		}
		for _, h := range hooks() {
			d.warm(t)
			d.invariants(t, h, data)
		}
	})
}

// seeds are the packets of this package's tables.
func seeds() [][]byte {
	var all [][]byte
	for _, h := range hooks()[:4] {
		ftcp, fudp, fping := honest(h)
		for _, f := range []frame{ftcp, fudp, fping, ftcp.withMSS(1460), fudp.noChecksum(), ftcp.ipOptions([]byte{148, 4, 0, 0})} {
			all = append(all, f.bytes())
		}
		for _, s := range spoiltPackets() {
			all = append(all, s.spoil(ftcp, fudp, fping).bytes())
		}
		first := fudp
		first.fragment = 0x2000
		later := fudp
		later.fragment = 3
		quote := append(make([]byte, 0, 64), fudp.bytes()[atIP:]...)
		unreachable := icmp(strings.Split(fudp.dst, ":")[0], strings.Split(fudp.src, ":")[0], 3, 0).data(quote)
		all = append(all, first.bytes(), later.bytes(), unreachable.bytes(), sctp(ftcp.src, ftcp.dst).bytes())
	}
	return all
}

// warm empties the flow table and enters a flow of each kind, one of them answered.
func (d *datapath) warm(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"flows4", "flows4_new", "frags4", "pieces4"} {
		empty(tb, d.coll.Maps[name])
	}
	for _, h := range hooks()[:4] {
		ftcp, fudp, fping := honest(h)
		for _, f := range []frame{ftcp, fudp, fping} {
			d.send(tb, h, f)
		}
	}
	d.send(tb, fromUplink("up0"), udp("192.0.2.10:53", "198.51.100.1:40000"))
	d.send(tb, fromContainer("c1"), udp("172.17.0.2:40000", "192.0.2.10:53"))
}

// invariants runs a program and checks what holds for every packet: the verdict is a known one; a packet is counted as dropped, or
// kept, if and only if it is; checksums that were right are right; the packet changes only as an entry of the flow table says; every entry has its partner.
func (d *datapath) invariants(tb testing.TB, h hook, data []byte) {
	tb.Helper()
	before := d.counters(tb)
	r, err := d.try(h, data, skb{})
	if err != nil {
		return // the kernel makes no packet of it
	}
	var drops, passes uint64
	for name, n := range moved(before, d.counters(tb)) {
		if strings.HasPrefix(name, "drop ") || name == hold {
			drops += n
		}
		if strings.HasPrefix(name, "pass ") {
			passes += n
		}
	}
	fail := func(format string, args ...any) {
		tb.Errorf("%s: "+format+"\nin  %s\nout %s", append(append([]any{h}, args...), describe(data), describe(r.data))...)
	}
	d.expectPairs(tb)
	switch r.verdict {
	case verdictDrop:
		if drops != 1 || passes != 0 {
			fail("dropped, but counted as dropped %d times and as passed %d times", drops, passes)
		}
		return
	case verdictNext, verdictRedirect:
		if drops != 0 {
			fail("verdict %d, but counted as dropped", r.verdict)
		}
	default:
		fail("verdict is %d", r.verdict)
	}
	if bytes.Equal(data, r.data) {
		return
	}
	if len(data) != len(r.data) {
		fail("%d bytes became %d", len(data), len(r.data))
		return
	}
	if checksums(data) == nil {
		if err := checksums(r.data); err != nil {
			fail("%v", err)
		}
	}
	if !d.explained(tb, data, r.data) {
		fail("no entry says so among\n%s", strings.Join(d.flows(tb), "\n"))
	}
}

// explained says whether an entry of the flow table makes the one packet of the other: by its addresses and, where the packet has them, by
// its ports. An ICMP error goes by the entry of what it quotes; there the addresses alone are compared.
func (d *datapath) explained(tb testing.TB, in, out []byte) bool {
	addrAt := func(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	portAt := func(b []byte, at int) uint16 { return binary.NativeEndian.Uint16(b[at:]) }
	l4 := atIP + int(in[atIP]&0xf)*4
	proto, later := in[atProto], binary.BigEndian.Uint16(in[20:])&0x1fff != 0
	ported := (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP || proto == unix.IPPROTO_SCTP || proto == unix.IPPROTO_UDPLITE ||
		proto == unix.IPPROTO_DCCP) && !later
	if proto == unix.IPPROTO_ICMP && !later {
		switch in[l4] {
		case 3, 4, 11, 12:
			for _, r := range d.flowRows(tb) {
				if addrAt(out, atSource+4) == r.flow.Daddr {
					return true
				}
			}
			return false
		}
	}
	for _, r := range d.flowRows(tb) {
		f := r.flow
		if r.key.Proto != proto || addrAt(in, atSource) != r.key.Saddr || addrAt(in, atSource+4) != r.key.Daddr ||
			addrAt(out, atSource) != f.Saddr || addrAt(out, atSource+4) != f.Daddr {
			continue
		}
		if !ported || portAt(in, l4) == r.key.Sport && portAt(in, l4+2) == r.key.Dport && portAt(out, l4) == f.Sport && portAt(out, l4+2) == f.Dport {
			return true
		}
	}
	return false
}

// testDropsCounted: L-1, a thousand good and bad packets in any order: every bad one is counted once, under its reason, and no good one is.
func testDropsCounted(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, publishWeb)
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]uint64{}
	before := d.counters(t)
	for range 1000 {
		h := hooks()[random.IntN(3)]
		ftcp, fudp, fping := honest(h)
		if random.IntN(2) == 0 {
			if r := d.send(t, h, []frame{ftcp, fudp, fping}[random.IntN(3)]); r.verdict == verdictDrop {
				t.Fatalf("%s: a good packet was dropped", h)
			}
			continue
		}
		s := spoiltPackets()[random.IntN(len(spoiltPackets()))]
		want["drop "+s.reason]++
		if r := d.send(t, h, s.spoil(ftcp, fudp, fping)); r.verdict != verdictDrop {
			t.Fatalf("%s: %s: verdict is %d", h, s.name, r.verdict)
		}
	}
	got := moved(before, d.counters(t))
	for name := range got {
		if !strings.HasPrefix(name, "drop ") {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

// testRandom: L-1, M-1, some thousand packets with random bytes in them.
func testRandom(t *testing.T, d *datapath) {
	d.reset(t)
	d.change(t, func(s *state.State) {
		publishWeb(s)
		d.w.setBridge(s, "br1", dockerRules, bpf.DatapathBridgeFlagBRIDGE_ICC)
	})
	d.warm(t)
	random := rand.New(rand.NewPCG(3, 4))
	all := seeds()
	for range 4000 {
		h := hooks()[random.IntN(len(hooks()))]
		data := d.w.addressed(h, randomFrame(random)).bytes()
		if random.IntN(2) == 0 {
			data = append([]byte(nil), all[random.IntN(len(all))]...)
			for range random.IntN(4) {
				data[random.IntN(len(data))] = byte(random.Uint32())
			}
		}
		d.invariants(t, h, data)
		if t.Failed() {
			return
		}
	}
}

// randomFrame gives a whole packet between any two of the addresses that mean something here.
func randomFrame(random *rand.Rand) frame {
	addrs := []string{
		"172.17.0.1", "172.17.0.2", "172.17.0.3", "172.17.0.9", "172.17.0.77", "172.18.0.2", "172.19.0.2", "198.51.100.1", "203.0.113.1",
		"192.0.2.10", "192.0.2.200", "192.0.2.97", "10.9.0.5", "127.0.0.1", "224.0.0.1", "172.17.255.255", "0.0.0.0",
	}
	ports := []string{"53", "80", "7", "8080", "40000", "0", "65535"}
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	src, dst := pick(addrs), pick(addrs)
	from, to := src+":"+pick(ports), dst+":"+pick(ports)
	quoted := udp(to, from)
	if random.IntN(2) == 0 {
		quoted = tcp(to, from, "A")
	}
	quote := quoted.data(make([]byte, random.IntN(3)*50)).bytes()[atIP:]
	if random.IntN(2) == 0 {
		quote = quote[:28]
	}
	f := []frame{
		tcp(from, to, []string{"S", "SA", "A", "FA", "R", "", "SFRPA"}[random.IntN(7)]), udp(from, to), sctp(from, to), echo(src, dst, 7),
		echoReply(src, dst, 7), portless("gre", src, dst), udp(from, to).noChecksum(),
		icmp(src, dst, []uint8{3, 4, 11, 12, 5}[random.IntN(5)], 0).data(quote),
	}[random.IntN(8)]
	if random.IntN(4) == 0 {
		f.fragment = []uint16{0x2000, 0x2001, 0x0003, 0x4000, 0x1fff}[random.IntN(5)]
	}
	if random.IntN(8) == 0 {
		f.options = make([]byte, 4*(1+random.IntN(10)))
	}
	if random.IntN(8) == 0 {
		f.ttl = uint8(random.IntN(3))
	}
	if random.IntN(8) == 0 {
		f.mss = 1460
	}
	return f
}
