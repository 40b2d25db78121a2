package packet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// The verifier gives a chain of calls 512 bytes of stack and eight frames (kernel/bpf/verifier.c, check_max_stack_depth). Older kernels round
// each frame up to 32 bytes, newer ones to less, so that what this one loads an older one may refuse.
const (
	stackLimit = 512
	stackRound = 32
	frameLimit = 8
)

// K-15: every chain of calls in every program fits into the stack that the oldest kernel gives, with what these tests add to each program as
// well: they run on the oldest kernels too.
func TestStack(t *testing.T) {
	spec, err := bpf.LoadDatapath()
	if err != nil {
		t.Fatal(err)
	}
	if err := wrap(spec); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		functions := functionsOf(spec.Programs[name])
		bytes, chain := deepest(functions, name, nil)
		t.Logf("%s: %d bytes: %s", name, bytes, strings.Join(chain, " > "))
		if bytes > stackLimit {
			t.Errorf("%s takes %d bytes of stack, and may take %d: %s", name, bytes, stackLimit, strings.Join(chain, " > "))
		}
		// The chain that takes most bytes need not be the longest.
		if chain := longest(functions, name); len(chain) > frameLimit {
			t.Errorf("%s takes %d frames, and may take %d: %s", name, len(chain), frameLimit, strings.Join(chain, " > "))
		}
	}
}

// function is one frame: its size, and whom it calls.
type function struct {
	stack int
	calls []string
}

// functionsOf finds the functions of a program with what each takes of the stack: the lowest place below the frame pointer that it reads,
// writes or makes a pointer to.
func functionsOf(p *ebpf.ProgramSpec) map[string]*function {
	all := map[string]*function{}
	var f *function
	var fromFrame [asm.R10 + 1]bool // registers that hold the frame pointer
	lowest := func(off int64) {
		if off < 0 {
			f.stack = max(f.stack, int(-off))
		}
	}
	for i, ins := range p.Instructions {
		// A function has type information; a label of wrap's is a symbol without.
		if name := ins.Symbol(); name != "" && btf.FuncMetadata(&ins) != nil || i == 0 {
			if i == 0 {
				name = p.Name
			}
			f = &function{}
			all[name] = f
			fromFrame = [asm.R10 + 1]bool{asm.R10: true}
		}
		class := ins.OpCode.Class()
		switch {
		case ins.IsFunctionCall():
			f.calls = append(f.calls, ins.Reference())
		case class == asm.StClass || class == asm.StXClass:
			if ins.Dst == asm.R10 {
				lowest(int64(ins.Offset))
			}
		case class == asm.LdXClass:
			if ins.Src == asm.R10 {
				lowest(int64(ins.Offset))
			}
			fromFrame[ins.Dst] = false
		case class.IsALU() && ins.OpCode.ALUOp() == asm.Mov && ins.OpCode.Source() == asm.RegSource:
			fromFrame[ins.Dst] = ins.Src == asm.R10
		case class.IsALU() && ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && fromFrame[ins.Dst]:
			lowest(ins.Constant)
			fromFrame[ins.Dst] = false
		}
	}
	return all
}

// deepest gives the chain of calls from a function that takes most.
func deepest(all map[string]*function, name string, above []string) (bytes int, chain []string) {
	f, ok := all[name]
	if !ok || slices.Contains(above, name) {
		return 0, []string{fmt.Sprintf("%s (?)", name)}
	}
	for _, callee := range f.calls {
		if b, c := deepest(all, callee, append(slices.Clone(above), name)); b > bytes {
			bytes, chain = b, c
		}
	}
	own := max(1, f.stack)
	own = (own + stackRound - 1) / stackRound * stackRound
	return bytes + own, append([]string{fmt.Sprintf("%s %d", name, own)}, chain...)
}

// longest gives the chain of calls from a function that takes most frames.
func longest(all map[string]*function, name string) (chain []string) {
	if f, ok := all[name]; ok {
		for _, callee := range f.calls {
			if c := longest(all, callee); len(c) > len(chain) {
				chain = c
			}
		}
	}
	return append([]string{name}, chain...)
}
