package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

const (
	// Offsets: of the protocol in struct __sk_buff (linux/bpf.h), of the destination in an IPv4 frame.
	protocolOffset    = 16
	destinationOffset = 14 + 16

	// The host's way outside.
	uplink = "up0"
)

// redirects is the least that any datapath on these hooks does: namespaces behind a veth of the host, whose packets two programs send on their way
// with the helpers that ebpfnet uses too, without a table, a check, a translation or a count. What it lacks of the limit, no such datapath has.
func redirects(t *testing.T, m meter) peer {
	h := suite.NewHost(t, lab.Native)
	a, b := behindVeth(t, h, 1), behindVeth(t, h, 2)
	out := toNeighbour(h.NS.Device(t, uplink).Index, lab.RouterIP)
	for _, way := range [][2]*machine{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		from.ns.IP(t, fmt.Sprintf("neigh add %s lladdr %s dev eth0 nud permanent", to.addr, to.ns.Device(t, "eth0").HardwareAddr))
		attach(t, h.NS, from.veth, ifTo(to.addr, intoNamespace(to.veth.Index), out))
	}
	attach(t, h.NS, h.NS.Device(t, uplink), ifTo(a.addr, intoNamespace(a.veth.Index), leave()))
	h.Router.IP(t, "route add 10.0.0.0/24 via "+lab.HostIP)
	for _, ns := range []*lab.Netns{a.ns, b.ns, h.Router} {
		m.serve(t, ns)
	}
	return peer{"redirects alone", map[way]ends{
		local:      {a.ns, at(b.addr)},
		published:  {h.Router, at(a.addr)},
		masquerade: {a.ns, at(lab.RouterIP)},
	}}
}

// machine is a namespace behind a veth of the host.
type machine struct {
	ns   *lab.Netns
	veth *net.Interface
	addr string
}

// behindVeth gives a host such a namespace, with the address 10.0.0.n.
func behindVeth(t *testing.T, h *lab.Host, n int) *machine {
	t.Helper()
	c, name := h.Machine(t, "c"), fmt.Sprintf("v%d", n)
	h.NS.IP(t, "link add "+name+" type veth peer name eth0 netns "+c.Name)
	h.NS.IP(t, "link set "+name+" up")
	m := &machine{c, h.NS.Device(t, name), fmt.Sprintf("10.0.0.%d", n)}
	for _, words := range []string{
		"addr add " + m.addr + "/24 dev eth0", "link set eth0 up",
		"neigh add 10.0.0.254 lladdr " + m.veth.HardwareAddr.String() + " dev eth0 nud permanent", "route add default via 10.0.0.254",
	} {
		c.IP(t, words)
	}
	return m
}

// attach puts a program on what comes in by a device of a namespace.
func attach(t *testing.T, ns *lab.Netns, dev *net.Interface, code asm.Instructions) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: code, License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	err = ns.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatalf("attach to %s: %v", dev.Name, err)
	}
}

// ifTo is a program that does one thing with packets to an IPv4 address, and another with packets to others.
func ifTo(addr string, then, otherwise asm.Instructions) asm.Instructions {
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, protocolOffset, asm.Word),
		asm.JEq.Imm32(asm.R2, int32(networkOrder16(unix.ETH_P_IP)), "ipv4"),
	}
	code = append(code, leave()...)
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("ipv4"),
		asm.Mov.Imm(asm.R2, destinationOffset),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 4),
		asm.FnSkbLoadBytes.Call(),
		asm.LoadMem(asm.R2, asm.RFP, -8, asm.Word),
		asm.JNE.Imm32(asm.R2, networkOrder(addr), "others"),
	)
	code = append(code, then...)
	otherwise = slices.Clone(otherwise)
	otherwise[0] = otherwise[0].WithSymbol("others")
	return append(code, otherwise...)
}

// intoNamespace sends a packet into the namespace behind a veth.
func intoNamespace(veth int) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R1, int32(veth)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirectPeer.Call(), asm.Return()}
}

// toNeighbour sends a packet out of a device to a neighbour. It writes a struct bpf_redir_neigh (linux/bpf.h).
func toNeighbour(dev int, addr string) asm.Instructions {
	const size = 20
	code := asm.Instructions{asm.StoreImm(asm.RFP, -size, unix.AF_INET, asm.Word), asm.StoreImm(asm.RFP, 4-size, int64(networkOrder(addr)), asm.Word)}
	for at := int16(8); at < size; at += 4 {
		code = append(code, asm.StoreImm(asm.RFP, at-size, 0, asm.Word))
	}
	return append(code,
		asm.Mov.Imm(asm.R1, int32(dev)),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -size),
		asm.Mov.Imm(asm.R3, size),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	)
}

// leave lets a packet go on through the stack.
func leave() asm.Instructions {
	const tcxNext = -1
	return asm.Instructions{asm.Mov.Imm(asm.R0, tcxNext), asm.Return()}
}

func networkOrder16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func networkOrder(addr string) int32 {
	return int32(binary.NativeEndian.Uint32(netip.MustParseAddr(addr).AsSlice()))
}
