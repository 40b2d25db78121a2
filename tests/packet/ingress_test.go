package packet

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// offIngress is where struct __sk_buff has the device that a packet came in by.
const offIngress = 36

// takesIngress says by trying whether this kernel's BPF_PROG_TEST_RUN lets a test say which device a packet came in by. Linux 5.10 does not.
func takesIngress(tb testing.TB) bool {
	tb.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.LoadMem(asm.R0, asm.R1, offIngress, asm.Word), asm.Return()},
	})
	if err != nil {
		tb.Fatalf("load probe of the test run: %v", err)
	}
	defer p.Close()
	const lo = 1
	got, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: &skb{IngressIfindex: lo}})
	if err != nil && !errors.Is(err, unix.EINVAL) {
		tb.Fatalf("try the test run: %v", err)
	}
	return err == nil && got == lo
}

// ingressFromCB makes every program read the device that a packet came in by from a word of skb->cb, which a test may fill on every kernel and
// which the programs have no other use for. It changes the offset of those loads and nothing else. That a kernel fills the true field is for
// the machines of tests/kernels to show, with packets that came in by a device.
func ingressFromCB(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		source := ""
		for i, ins := range p.Instructions {
			if s := ins.Source(); s != nil { // each line of the source stands at its first instruction only
				source = s.String()
			}
			if ins.OpCode == asm.LoadMemOp(asm.Word) && ins.Offset == offIngress && strings.Contains(source, "skb->ingress_ifindex") {
				p.Instructions[i].Offset = offCB + 4*cbIngress
			}
		}
	}
}

// TestIngressFromCB: what is asked that way on kernels that know no other gives what it gives where the test run takes the device.
func TestIngressFromCB(t *testing.T) {
	d := load(t, options{
		wrap: wrap, ingressFromCB: true,
		programs: []string{"clock", "from_container", "to_container", "from_bridge", "to_bridge", "from_uplink", "to_uplink"},
	})
	t.Run("closed", func(t *testing.T) { testClosed(t, d) })
	t.Run("arrivals", d.testArrivals)
	t.Run("offload", func(t *testing.T) { testOffload(t, d) })
}
