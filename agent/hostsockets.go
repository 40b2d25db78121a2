package agent

import (
	stdmaps "maps"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy"
)

// endSockets ends the host's connected UDP sockets whose published port leads to another container than when they dialled it, or to none: a
// datagram socket would go on sending to the old address without ever being told. TCP finds out by itself.
func (a *Agent) endSockets(r policy.Result) error {
	if len(r.Turnover.Gone) == 0 && stdmaps.Equal(a.settled.State.Publish, r.State.Publish) {
		return nil
	}
	cookies, err := a.dp.ForgetSockets(func(key bpf.SockKey, dialled bpf.Sock) bool {
		return !leadsTo(r.State.Publish, dialled, key, unix.IPPROTO_UDP) && !leadsTo(r.State.Publish, dialled, key, unix.IPPROTO_TCP)
	})
	if err != nil {
		return err
	}
	n, err := a.host.EndUDP(cookies)
	if err != nil {
		return err
	}
	if n > 0 {
		a.log.Info("sockets of the host ended: their published port leads elsewhere", "count", n)
	}
	return nil
}

// leadsTo tells whether who dials an address and port now gets where the socket got.
func leadsTo(publish map[bpf.PublishKey]bpf.Publish, dialled bpf.Sock, got bpf.SockKey, proto uint8) bool {
	key := bpf.PublishKey{Addr: dialled.Addr, Port: dialled.Port, Proto: proto}
	p, ok := publish[key]
	if !ok {
		key.Addr = 0
		p, ok = publish[key]
	}
	return ok && p.Addr == got.Addr && p.Port == got.Port
}
