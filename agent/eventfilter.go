package agent

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/policy"
)

// eventFilter says which events are asked for. The zero value asks for all.
type eventFilter struct {
	drops     bool
	endpoints map[uint32]bool // nil: any
	proto     uint8           // with anyProto false
	anyProto  bool
	port      uint16       // 0: any; as the network has it
	prefix    netip.Prefix // invalid: any
	drop      bpf.DropReason
	pass      bpf.PassReason
	anyReason bool
}

func (v *view) eventFilter(values url.Values, names bpf.Names) (f eventFilter, err error) {
	q := monitorQuery(values)
	f = eventFilter{drops: q.Drops, anyProto: q.Proto == "", anyReason: q.Reason == ""}
	if q.Container != "" {
		flows, err := v.flowFilter(q.Container, "")
		if err != nil {
			return f, v.known(err)
		}
		f.endpoints = flows.endpoints
	}
	if !f.anyProto {
		if f.proto, err = protoNumber(q.Proto); err != nil {
			return f, usageError{err}
		}
	}
	if q.Port != "" {
		n, err := strconv.ParseUint(q.Port, 10, 16)
		if err != nil || n == 0 {
			return f, usageError{fmt.Errorf("port %q is not 1 to 65535", q.Port)}
		}
		f.port = bpf.Port(uint16(n))
	}
	if q.Address != "" {
		if f.prefix, err = parsePrefix(q.Address); err != nil {
			return f, usageError{err}
		}
	}
	if !f.anyReason {
		drop, pass := max(slices.Index(names.Drops, q.Reason), 0), max(slices.Index(names.Passes, q.Reason), 0)
		if drop == 0 && pass == 0 {
			return f, usageError{fmt.Errorf("reason %q: it is one of %s; or, of packets left to the kernel, of %s", q.Reason,
				strings.Join(names.Drops[1:], ", "), strings.Join(names.Passes[1:], ", "))}
		}
		f.drop, f.pass = bpf.DropReason(drop), bpf.PassReason(pass)
	}
	return f, nil
}

// protoNumber knows protocols by name, and all by number.
func protoNumber(s string) (uint8, error) {
	if strings.EqualFold(s, "icmp") {
		return 1, nil
	}
	if p, err := policy.ParseProto(s); err == nil {
		return p, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("protocol %q is not tcp, udp, sctp, icmp or a number", s)
	}
	return uint8(n), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return netip.PrefixFrom(a, 32), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is no IPv4 address and no prefix", s)
	}
	return p.Masked(), nil
}

// known adds to an error about a name the names that there are.
func (v *view) known(err error) error {
	var names []string
	for i := range v.result.Endpoints {
		names = append(names, v.result.Endpoints[i].Name)
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: there is no container on an attached bridge", err)
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return fmt.Errorf("%w: there are %s", err, strings.Join(names, ", "))
}

func (f *eventFilter) wants(e *bpf.Event) bool {
	b, a := &e.Before, &e.After
	switch {
	case f.drops && e.Drop == 0:
		return false
	case f.endpoints != nil && !f.endpoints[e.SrcId] && !f.endpoints[e.DstId]:
		return false
	case !f.anyProto && (b.Proto != f.proto || e.Pass == bpf.DatapathPassReasonPASS_NOT_IPV4):
		return false
	case f.port != 0 && b.Sport != f.port && b.Dport != f.port && a.Sport != f.port && a.Dport != f.port:
		return false
	case !f.anyReason && (e.Drop == 0 || e.Drop != f.drop) && (e.Pass == 0 || e.Pass != f.pass):
		return false
	case !f.prefix.IsValid():
		return true
	}
	for _, addr := range []uint32{b.Saddr, b.Daddr, a.Saddr, a.Daddr} {
		if f.prefix.Contains(bpf.ToAddr(addr)) {
			return true
		}
	}
	return false
}
