package loader

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What is on a device is read here and not through go-tc, which gives up at the first kind or attribute that it does not know: a foreign
// filter would hide our own.

// Places of the clsact qdisc (include/uapi/linux/pkt_sched.h).
const (
	clsactHandle  = 0xFFFF0000 // TC_H_CLSACT, major number
	clsactParent  = 0xFFFFFFF1 // TC_H_CLSACT
	clsactIngress = 0xFFFFFFF2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	clsactEgress  = 0xFFFFFFF3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
)

// Attributes (include/uapi/linux/rtnetlink.h, pkt_cls.h), and the size of struct tcmsg.
const (
	tcaKind     = 1
	tcaOptions  = 2
	tcaBpfName  = 7
	tcaBpfID    = 11
	tcMsgLength = 20
)

// tcObject is a qdisc or a filter.
type tcObject struct {
	ifindex int
	handle  uint32
	parent  uint32
	prio    uint16 // of a filter
	proto   uint16 // of a filter: what it looks at, as the kernel has it (network order)
	kind    string
	name    string // of a filter of kind bpf
	program uint32 // of a filter of kind bpf: its id
}

// tcDump asks the kernel for all qdiscs (RTM_GETQDISC) or for the filters of one place of a device (RTM_GETTFILTER).
func tcDump(request netlink.HeaderType, ifindex int, parent uint32) ([]tcObject, error) {
	return tcQuery(request, netlink.Dump, ifindex, parent)
}

// clsactOf gives the kind of the qdisc at the place of clsact, "" where there is none. It may be "ingress", which excludes clsact.
func clsactOf(ifindex int) (string, error) {
	// The answer is a notification, which the asker is sent only with NLM_F_ECHO. There may be none: of a device that had a qdisc the kernel
	// finds a placeholder, which it does not show. The acknowledgement then says that all was said.
	found, err := tcQuery(unix.RTM_GETQDISC, netlink.Echo|netlink.Acknowledge, ifindex, clsactParent)
	if errors.Is(err, unix.ENOENT) || err == nil && len(found) == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("get qdisc: %w", err)
	}
	return found[0].kind, nil
}

func tcQuery(request netlink.HeaderType, flags netlink.HeaderFlags, ifindex int, parent uint32) ([]tcObject, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer conn.Close()
	data := make([]byte, tcMsgLength)
	binary.NativeEndian.PutUint32(data[4:], uint32(ifindex))
	binary.NativeEndian.PutUint32(data[12:], parent)
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: request, Flags: netlink.Request | flags},
		Data:   data,
	})
	if err != nil {
		return nil, err
	}
	var objects []tcObject
	for _, a := range answers {
		// RTM_NEWQDISC answers RTM_GETQDISC, and so for filters; what else comes is an acknowledgement.
		if a.Header.Type != request-2 || len(a.Data) < tcMsgLength {
			continue
		}
		o, err := parseTC(a.Data)
		if err != nil {
			return nil, fmt.Errorf("parse answer: %w", err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func parseTC(data []byte) (tcObject, error) {
	info := binary.NativeEndian.Uint32(data[16:])
	o := tcObject{
		ifindex: int(int32(binary.NativeEndian.Uint32(data[4:]))),
		handle:  binary.NativeEndian.Uint32(data[8:]),
		parent:  binary.NativeEndian.Uint32(data[12:]),
		prio:    uint16(info >> 16),
		proto:   uint16(info),
	}
	attrs, err := netlink.NewAttributeDecoder(data[tcMsgLength:])
	if err != nil {
		return o, err
	}
	var options []byte
	for attrs.Next() {
		switch attrs.Type() {
		case tcaKind:
			o.kind = attrs.String()
		case tcaOptions:
			options = attrs.Bytes()
		}
	}
	if err := attrs.Err(); err != nil || o.kind != "bpf" {
		return o, err
	}
	attrs, err = netlink.NewAttributeDecoder(options)
	if err != nil {
		return o, err
	}
	for attrs.Next() {
		switch attrs.Type() {
		case tcaBpfName:
			o.name = attrs.String()
		case tcaBpfID:
			o.program = attrs.Uint32()
		}
	}
	return o, attrs.Err()
}

// filters lists the filters of one direction of a device. The kernel also lists, with handle 0, the place that filters of one priority
// share; that is no filter. A device without clsact, or no device, has none.
func filters(ifindex int, dir direction) ([]tcObject, error) {
	all, err := tcDump(unix.RTM_GETTFILTER, ifindex, dir.clsact())
	if err != nil {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	var real []tcObject
	for _, f := range all {
		if f.handle != 0 {
			real = append(real, f)
		}
	}
	return real, nil
}
