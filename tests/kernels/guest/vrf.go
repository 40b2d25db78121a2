package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	vrfDevice  = "vrf7"
	vrfTable   = 7
	lastMetric = 4278198272
)

// vrf has the bridge and an uplink in a VRF. I-2: containers go out and are reached by its table, which the host's own sockets do not use. It
// leaves the bridge as it was.
func (w *world) vrf() (err error) {
	vrf := &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: vrfDevice}, Table: vrfTable}
	if err := netlink.LinkAdd(vrf); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deleteLinks(vrfDevice, spareDevice)) }()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: spareDevice}, PeerName: rawOutside, PeerNamespace: netlink.NsFd(w.out.ns)}
	if err := errors.Join(netlink.LinkSetUp(vrf), netlink.LinkAdd(pair)); err != nil {
		return fmt.Errorf("make %s: %w", spareDevice, err)
	}
	// Where its table ends the next rule would go on with the main one: whoever wants his networks apart says so, with the last of all metrics.
	everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(&netlink.Route{Table: vrfTable, Type: unix.RTN_UNREACHABLE, Dst: everywhere, Priority: lastMetric}); err != nil {
		return fmt.Errorf("end table %d: %w", vrfTable, err)
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	for _, dev := range []netlink.Link{pair, br} {
		if err := netlink.LinkSetMaster(dev, vrf); err != nil {
			return fmt.Errorf("put %s into %s: %w", dev.Attrs().Name, vrfDevice, err)
		}
	}
	err = errors.Join(
		addTo(spareDevice, spareHost+"/24"),
		w.out.do(func() error { return addTo(rawOutside, spareOutside+"/24") }),
		ebpfnet(nil, "attach", "--bridge", bridge, "--uplink", uplink, "--uplink", spareDevice),
	)
	if err != nil {
		return err
	}
	var tries []try
	for _, network := range []string{"tcp", "udp"} {
		tries = append(tries,
			try{network + " out", func() error { return w.expect(w.c1, network, spareOutside+":80", "out", spareHost) }},
			try{network + " in", func() error { return w.expect(w.out, network, spareHost+":8081", "c1", spareOutside) }},
			try{network + " to a neighbour", func() error { return w.expect(w.c1, network, addrC2+":80", "c2", addrC1) }},
		)
	}
	return all(append(tries,
		try{"flow list, out", func() error { return carried("out", addrC1, spareOutside) }},
		try{"flow list, in", func() error { return carried("in", spareOutside, addrC1) }},
		try{"another table's route", func() error { return refusal(w.c1, outside) }},
	)...)
}
