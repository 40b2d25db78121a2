package loader

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// sockProgram is one program for the host's own sockets.
type sockProgram struct {
	name        string
	attach      ebpf.AttachType
	getpeername bool // came later than the others
	in          func(*bpf.SockObjects) **ebpf.Program
}

func sockPrograms() []sockProgram {
	return []sockProgram{
		{bpf.SockProgSockConnect4, ebpf.AttachCGroupInet4Connect, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockConnect4 }},
		{bpf.SockProgSockConnect6, ebpf.AttachCGroupInet6Connect, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockConnect6 }},
		{bpf.SockProgSockSendmsg4, ebpf.AttachCGroupUDP4Sendmsg, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockSendmsg4 }},
		{bpf.SockProgSockSendmsg6, ebpf.AttachCGroupUDP6Sendmsg, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockSendmsg6 }},
		{bpf.SockProgSockRecvmsg4, ebpf.AttachCGroupUDP4Recvmsg, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockRecvmsg4 }},
		{bpf.SockProgSockRecvmsg6, ebpf.AttachCGroupUDP6Recvmsg, false, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockRecvmsg6 }},
		{bpf.SockProgSockGetpeername4, ebpf.AttachCgroupInet4GetPeername, true, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockGetpeername4 }},
		{bpf.SockProgSockGetpeername6, ebpf.AttachCgroupInet6GetPeername, true, func(o *bpf.SockObjects) **ebpf.Program { return &o.SockGetpeername6 }},
	}
}

// AttachSockets puts the socket programs on the root of the cgroup2 hierarchy, beside those of others. It may be called again at any time.
// On a host without such a hierarchy or such hooks it does nothing and says so in Problems: the host's own sockets then reach published
// ports only where the packets' way does it.
func (d *Datapath) AttachSockets() error {
	d.sockProblem = ""
	if d.sockGap != "" {
		d.sockProblem = "sockets of the host are not translated: " + d.sockGap
		return nil
	}
	root, err := cgroupRoot(d.mountinfo)
	if err != nil {
		d.sockProblem = "sockets of the host are not translated: " + err.Error()
		return nil
	}
	for _, p := range sockPrograms() {
		prog := *p.in(&d.Sock)
		if prog == nil {
			continue
		}
		if err := attachCgroup(d.paths.cgroupPin(p.name), root, p.attach, prog); err != nil {
			return fmt.Errorf("attach %s to %s: %w", p.name, root, explain(err))
		}
	}
	return nil
}

func attachCgroup(pin, root string, attach ebpf.AttachType, prog *ebpf.Program) error {
	state, err := updateLink(pin, prog, func(info *link.Info) (bool, error) {
		cg := info.Cgroup()
		return cg != nil && cg.CgroupId != 0, nil
	})
	if err != nil || state != linkNone {
		return err
	}
	// A link is in multi mode always: others' programs run too.
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: attach, Program: prog})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}

// DetachSockets takes the socket programs of this instance away.
func (d *Datapath) DetachSockets() error { return detachSockets(d.paths) }

func detachSockets(p Paths) error {
	for _, prog := range sockPrograms() {
		if err := removeLink(p.cgroupPin(prog.name)); err != nil {
			return fmt.Errorf("detach %s: %w", prog.name, err)
		}
	}
	return nil
}
