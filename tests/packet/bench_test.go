package packet

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// restored is how many bytes of a frame a benchmark writes again before each run: all headers.
const restored = 54

// wrapRestore makes every program begin with writing the frame's headers again, because a repeated run is given what the last one left; and
// makes a program that does nothing else, to be taken off.
func wrapRestore(spec *ebpf.CollectionSpec) error {
	spec.Maps["frame"] = &ebpf.MapSpec{Name: "frame", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1}
	begin := func() asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.Mov.Imm(asm.R2, 0),
			asm.LoadMapValue(asm.R3, 0, 0).WithReference("frame"),
			asm.Mov.Imm(asm.R4, restored),
			asm.Mov.Imm(asm.R5, 0),
			asm.FnSkbStoreBytes.Call(),
			asm.Mov.Reg(asm.R1, asm.R6),
		}
	}
	for _, p := range spec.Programs {
		head := begin()
		first := p.Instructions[0]
		head[0] = btf.WithFuncMetadata(head[0].WithSymbol(first.Symbol()).WithSource(first.Source()), btf.FuncMetadata(&first))
		p.Instructions[0] = btf.WithFuncMetadata(first.WithSymbol(""), nil)
		p.Instructions = append(head, p.Instructions...)
	}
	spec.Programs["nothing"] = &ebpf.ProgramSpec{
		Name: "nothing", Type: ebpf.SchedCLS, License: "GPL", Instructions: append(begin(), asm.Mov.Imm(asm.R0, 0), asm.Return()),
	}
	return nil
}

// BenchmarkKnownFlow measures a packet of a flow that is known and answered, without the device's and the stack's part, and without what
// the harness itself takes.
func BenchmarkKnownFlow(b *testing.B) {
	const repeat = 1_000_000
	d := load(b, options{wrap: wrapRestore})
	d.change(b, publishWeb)
	cases := evictCases(d)[:3]
	run := func(h hook, f frame) time.Duration {
		data := d.w.addressed(h, f).bytes()
		if err := d.coll.Maps["frame"].Put(uint32(0), append(append([]byte(nil), data[:restored]...), make([]byte, 64-restored)...)); err != nil {
			b.Fatal(err)
		}
		in := skb{Ifindex: d.w.devices[h.dev].index}
		start := time.Now()
		if _, err := d.coll.Programs[h.prog].Run(&ebpf.RunOptions{Data: data, Context: &in, Repeat: repeat}); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for _, c := range cases {
		for direction, p := range map[string]sent{"there": c.forward, "back": c.reply} {
			b.Run(c.name+" "+direction, func(b *testing.B) {
				for _, s := range []sent{c.forward, c.reply, c.forward} {
					data := d.w.addressed(s.hook, s.frame).bytes()
					if err := d.coll.Maps["frame"].Put(uint32(0), append(append([]byte(nil), data[:restored]...), make([]byte, 64-restored)...)); err != nil {
						b.Fatal(err)
					}
					if r := d.send(b, s.hook, s.frame); r.verdict != verdictRedirect {
						b.Fatalf("%s: verdict is %d", s.hook, r.verdict)
					}
				}
				var with, without time.Duration
				for b.Loop() {
					with += run(p.hook, p.frame)
					without += run(hook{"nothing", p.hook.dev}, p.frame)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(with-without)/float64(b.N)/repeat, "ns/packet")
			})
		}
	}
}
