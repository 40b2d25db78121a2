package e2e

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// xdpStranger attaches somebody else's XDP program to a device, in its driver: it counts packets and lets them pass.
func xdpStranger(t *testing.T, n *lab.Netns, dev string) *stranger {
	t.Helper()
	s := &stranger{}
	var err error
	if s.count, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.count.Close() })
	const pass = 2 // XDP_PASS
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: counting(s.count, pass)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	index := n.Device(t, dev).Index
	err = n.Do(func() (err error) {
		s.link, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The device may be gone when the test ends, with the container that had it.
	t.Cleanup(func() { _ = s.link.Close() })
	return s
}

// counting are the instructions of a program that counts its runs and returns a verdict.
func counting(count *ebpf.Map, verdict int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, count.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, verdict).WithSymbol("out"),
		asm.Return(),
	}
}

// G-17: with an XDP program on the host's end of a container's veth, and on the container's, what the container sends passes it first, and
// connections arrive whole and in order.
func TestXDP(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web, n := s.Run(t, "web", "-p", "8097:80"), s.Run(t, "n")
		const bytes = 8 << 20
		const few = bytes / 1448 / 10
		outside := xdpStranger(t, s.NS, s.Endpoint(t, web.IP).Veth)
		xdpStranger(t, web.NS, "eth0")
		for name, c := range map[string]*lab.Client{"in": s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8097)), "local": n.NS.Dial(t, "tcp", web.At(80))} {
			late := func() int { return outOfOrder(t, web.NS) + outOfOrder(t, s.Remote) + outOfOrder(t, n.NS) }
			before := late()
			outside.runs(t, name+": the program", bytes/(64<<10), func() {
				there, err1 := c.Sink(bytes, 20*lab.Patience)
				back, err2 := c.Source(bytes, 20*lab.Patience)
				if err := errors.Join(err1, err2); err != nil || there != lab.BulkDigest(bytes) || back != lab.BulkDigest(bytes) {
					t.Errorf("%s: %v", name, err)
				}
			})
			if after := late(); after-before > few {
				t.Errorf("%s: %d segments arrived out of order", name, after-before)
			} else {
				t.Logf("%s: %d segments out of order", name, after-before)
			}
		}
	})
}
