package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hooksOf says what programs a device has, by asking the kernel: "tcx ingress 1, egress 1".
func hooksOf(device string) (string, error) {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", device, err)
	}
	var kinds []string
	for _, kind := range []struct {
		name  string
		count func(dev netlink.Link, egress bool) (int, error)
	}{{"tcx", tcxPrograms}, {"clsact", filters}} {
		in, err := kind.count(dev, false)
		if err != nil {
			return "", fmt.Errorf("list %s programs of %s: %w", kind.name, device, err)
		}
		out, err := kind.count(dev, true)
		if err != nil {
			return "", fmt.Errorf("list %s programs of %s: %w", kind.name, device, err)
		}
		if in+out > 0 {
			kinds = append(kinds, fmt.Sprintf("%s ingress %d, egress %d", kind.name, in, out))
		}
	}
	return strings.Join(kinds, " and "), nil
}

func tcxPrograms(dev netlink.Link, egress bool) (int, error) {
	at := ebpf.AttachTCXIngress
	if egress {
		at = ebpf.AttachTCXEgress
	}
	res, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: at})
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL): // the kernel does not know the place
		return 0, nil
	case err != nil:
		return 0, err
	}
	return len(res.Programs), nil
}

func filters(dev netlink.Link, egress bool) (int, error) {
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if egress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	list, err := netlink.FilterList(dev, parent)
	return len(list), err
}
