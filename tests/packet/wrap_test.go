package packet

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Words of skb.cb by which a test talks to the instructions that wrap adds.
const (
	cbMarkIn  = 0 // skb->tc_index before
	cbLength  = 1 // the frame is cut to this many bytes first; 0: it is not
	cbMarkOut = 2 // skb->tc_index after
	cbTypeOut = 3 // skb->pkt_type after
	cbIngress = 4 // skb->ingress_ifindex, for ingressFromCB
)

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h).
const (
	offPktType = 4
	offTCIndex = 44
	offCB      = 48
)

// wrap adds instructions to the beginning and the end of every program, for what BPF_PROG_TEST_RUN neither takes nor shows: skb->tc_index
// before and after, skb->pkt_type after, and IP frames shorter than an IP header. A program that called the other would be simpler, but is
// one frame of the stack too many.
func wrap(spec *ebpf.CollectionSpec) error {
	for name, p := range spec.Programs {
		body, rest := splitMain(p.Instructions)
		saved := stackUsed(body) - 8
		cb := func(i int16) int16 { return offCB + 4*i }

		begin := asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.StoreMem(asm.RFP, saved, asm.R1, asm.DWord),
			asm.LoadMem(asm.R2, asm.R6, cb(cbMarkIn), asm.Word),
			asm.StoreMem(asm.R6, offTCIndex, asm.R2, asm.Word),
			asm.LoadMem(asm.R2, asm.R6, cb(cbLength), asm.Word),
			asm.JEq.Imm(asm.R2, 0, "body"),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(),
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("body"),
		}
		first := body[0]
		begin[0] = btf.WithFuncMetadata(begin[0].WithSymbol(first.Symbol()).WithSource(first.Source()), btf.FuncMetadata(&first))
		body[0] = btf.WithFuncMetadata(first.WithSymbol(""), nil)

		end := asm.Instructions{
			asm.LoadMem(asm.R6, asm.RFP, saved, asm.DWord).WithSymbol("end"),
			asm.LoadMem(asm.R2, asm.R6, offTCIndex, asm.Word),
			asm.StoreMem(asm.R6, cb(cbMarkOut), asm.R2, asm.Word),
			asm.LoadMem(asm.R2, asm.R6, offPktType, asm.Word),
			asm.StoreMem(asm.R6, cb(cbTypeOut), asm.R2, asm.Word),
			asm.Return(),
		}
		for i, ins := range body {
			if ins.OpCode.JumpOp() != asm.Exit || ins.OpCode.Class() != asm.JumpClass {
				continue
			}
			body[i] = asm.Ja.Label("end").WithSource(ins.Source())
		}
		if len(body) == 0 {
			return fmt.Errorf("wrap %s: no instructions", name)
		}
		p.Instructions = append(append(append(begin, body...), end...), rest...)
	}
	return nil
}

// splitMain parts a program's own function from those that it calls.
func splitMain(all asm.Instructions) (body, rest asm.Instructions) {
	for i := range all {
		if i > 0 && btf.FuncMetadata(&all[i]) != nil {
			return append(asm.Instructions(nil), all[:i]...), all[i:]
		}
	}
	return append(asm.Instructions(nil), all...), nil
}

// stackUsed gives the lowest offset from the frame pointer that a function may touch.
func stackUsed(body asm.Instructions) int16 {
	low := int16(0)
	for _, ins := range body {
		if ins.Dst == asm.RFP || ins.Src == asm.RFP {
			low = min(low, ins.Offset)
		}
		if ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && ins.Constant > -512 {
			low = min(low, int16(ins.Constant))
		}
	}
	return low &^ 7
}
