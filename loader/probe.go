package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Flags of bpf_fib_lookup, and the size of its parameters (include/uapi/linux/bpf.h).
const (
	fibSkipNeigh  = 1 << 2
	fibSrc        = 1 << 4
	fibParamsSize = 64
)

// testFrame is the smallest input that BPF_PROG_TEST_RUN takes for a TC program: a link-layer header.
func testFrame() []byte { return make([]byte, 14) }

// probeFibFlag calls bpf_fib_lookup for an address family that does not exist: flags are looked at before the family, so a kernel that
// knows the flag says EAFNOSUPPORT, and one that does not says EINVAL. No route is needed, and none is looked up.
func probeFibFlag(flag int32) error {
	insns := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R0, 0),
	}
	for off := int16(-fibParamsSize); off < 0; off += 8 {
		insns = append(insns, asm.StoreMem(asm.RFP, off, asm.R0, asm.DWord))
	}
	insns = append(insns,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -fibParamsSize),
		asm.Mov.Imm(asm.R3, fibParamsSize),
		asm.Mov.Imm(asm.R4, flag),
		asm.FnFibLookup.Call(),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "probe_fib", Type: ebpf.SchedCLS, Instructions: insns, License: "Dual BSD/GPL"})
	if err != nil {
		return err
	}
	defer prog.Close()
	ret, err := prog.Run(&ebpf.RunOptions{Data: testFrame()})
	if err != nil {
		return err
	}
	switch errno := unix.Errno(-int32(ret)); errno {
	case unix.EAFNOSUPPORT:
		return nil
	case unix.EINVAL:
		return ebpf.ErrNotSupported
	default:
		return fmt.Errorf("bpf_fib_lookup with flags %#x: %w", flag, errno)
	}
}

// tunnelKeySize is the size of struct bpf_tunnel_key with local_ipv4, its last field (include/uapi/linux/bpf.h of kernel 5.19).
const tunnelKeySize = 44

// probeTunnelLocal sets a tunnel key of the newer size: an older kernel says EINVAL.
func probeTunnelLocal() error {
	insns := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.Mov.Imm(asm.R0, 0)}
	const room = (tunnelKeySize + 7) / 8 * 8
	for off := int16(-room); off < 0; off += 8 {
		insns = append(insns, asm.StoreMem(asm.RFP, off, asm.R0, asm.DWord))
	}
	insns = append(insns,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -room),
		asm.Mov.Imm(asm.R3, tunnelKeySize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkbSetTunnelKey.Call(),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "probe_tunnel", Type: ebpf.SchedCLS, Instructions: insns, License: "Dual BSD/GPL"})
	if err != nil {
		return err
	}
	defer prog.Close()
	ret, err := prog.Run(&ebpf.RunOptions{Data: testFrame()})
	if err != nil {
		return err
	}
	switch errno := unix.Errno(-int32(ret)); errno {
	case 0:
		return nil
	case unix.EINVAL:
		return ebpf.ErrNotSupported
	default:
		return fmt.Errorf("bpf_skb_set_tunnel_key: %w", errno)
	}
}

// probeTCX asks for a link on a device that cannot be: a kernel that knows such links looks for the device.
func probeTCX() error {
	prog, err := trivialProgram(ebpf.SchedCLS, ebpf.AttachNone)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return ebpf.ErrNotSupported
	case err != nil:
		return err
	}
	l.Close()
	return fmt.Errorf("attached to device %d, which should not be", math.MaxInt32)
}

// probeSockAddr loads a program for each attach type: the kernel refuses at that point those that it does not know.
func probeSockAddr(getpeername bool) error {
	for _, p := range sockPrograms() {
		if p.getpeername != getpeername {
			continue
		}
		prog, err := trivialProgram(ebpf.CGroupSockAddr, p.attach)
		if errors.Is(err, unix.EINVAL) {
			return ebpf.ErrNotSupported
		}
		if err != nil {
			return err
		}
		prog.Close()
	}
	return nil
}

// probeKfunc looks a function up in the type information of the kernel and of the module that may hold it.
func probeKfunc(module, name string) error {
	cache := btf.NewCache()
	kernel, err := cache.Kernel()
	if err != nil {
		return err
	}
	var fn *btf.Func
	if kernel.TypeByName(name, &fn) == nil {
		return nil
	}
	spec, err := cache.Module(module)
	if errors.Is(err, fs.ErrNotExist) {
		return ebpf.ErrNotSupported
	}
	if err != nil {
		return err
	}
	if err := spec.TypeByName(name, &fn); err != nil {
		return ebpf.ErrNotSupported
	}
	return nil
}

func probeBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

func probeJIT() error {
	prog, err := trivialProgram(ebpf.SchedCLS, ebpf.AttachNone)
	if err != nil {
		return err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return err
	}
	if size, err := info.JitedSize(); err != nil || size == 0 {
		return ebpf.ErrNotSupported
	}
	return nil
}

func probeNetnsCookie() error {
	_, err := netnsCookie()
	if errors.Is(err, unix.ENOPROTOOPT) {
		return ebpf.ErrNotSupported
	}
	return err
}

// netnsCookie gives the cookie of the calling thread's network namespace. ENOPROTOOPT where the kernel does not tell.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("get SO_NETNS_COOKIE: %w", err)
	}
	return cookie, nil
}

// ticksPerSecond gives CONFIG_HZ: the coarse clock moves by one tick at a time.
func ticksPerSecond() (uint32, error) {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return 0, fmt.Errorf("get resolution of the coarse clock: %w", err)
	}
	tick := time.Duration(ts.Nano())
	if tick <= 0 || tick > time.Second {
		return 0, fmt.Errorf("get resolution of the coarse clock: %v is not a tick", tick)
	}
	return uint32(math.Round(float64(time.Second) / float64(tick))), nil
}

// trivialProgram loads a program that returns 1 and does nothing else.
func trivialProgram(t ebpf.ProgramType, attach ebpf.AttachType) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "probe", Type: t, AttachType: attach, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
}
