package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// The other network that uplinks of every kind lead to, and the names of what is made for each.
const (
	spareHost    = "198.18.0.1"
	spareOutside = "198.18.0.2"
	spareDevice  = "spare0"
	rawDevice    = "raw0" // the cable that the device is made of
	rawOutside   = "raw1" // its other end
	vlanID       = 7
)

// uplinkKind is a kind of device that can be an uplink. Each end is made of its end of the cable.
type uplinkKind struct {
	name    string
	host    func(raw netlink.Link) error // makes spareDevice
	outside func(raw netlink.Link) (string, error)
	parent  bool // the cable's end is an uplink as well
}

func uplinkKinds() []uplinkKind {
	itself := func(raw netlink.Link) (string, error) { return raw.Attrs().Name, nil }
	vlan := func(raw netlink.Link) error {
		return netlink.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: spareDevice, ParentIndex: raw.Attrs().Index}, VlanId: vlanID})
	}
	tagged := func(raw netlink.Link) (string, error) { return spareDevice, vlan(raw) }
	return []uplinkKind{
		{name: "vlan", host: vlan, outside: tagged},
		{name: "vlan beside its parent", host: vlan, outside: tagged, parent: true},
		{name: "bond", outside: itself, host: func(raw netlink.Link) error {
			bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: spareDevice})
			bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 50
			if err := netlink.LinkAdd(bond); err != nil {
				return err
			}
			return join(raw, bond)
		}},
		{name: "team", outside: itself, host: makeTeam},
		{name: "bridge", outside: itself, host: func(raw netlink.Link) error {
			br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: spareDevice}}
			if err := netlink.LinkAdd(br); err != nil {
				return err
			}
			return join(raw, br)
		}},
		{name: "macvlan", outside: itself, host: func(raw netlink.Link) error {
			attrs := netlink.LinkAttrs{Name: spareDevice, ParentIndex: raw.Attrs().Index}
			return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
		}},
	}
}

// join makes a device part of another.
func join(raw, master netlink.Link) error {
	if err := netlink.LinkSetDown(raw); err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(raw, master); err != nil {
		return err
	}
	return netlink.LinkSetUp(raw)
}

// uplinks has containers go out and be reached by devices of each kind that the kernel makes, and has those refused that have no link-layer
// header. It leaves eth-out as it was.
func (w *world) uplinks(f loader.Features) (string, error) {
	if err := errors.Join(ebpfnet(nil, "publish", "8081:80", addrC1), ebpfnet(nil, "publish", "8081:80/udp", addrC1)); err != nil {
		return "", err
	}
	var tried []string
	var errs []error
	for _, k := range uplinkKinds() {
		err := w.uplink(k, f)
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue // this kernel makes none
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
		}
		tried = append(tried, k.name)
	}
	leaveVRF := os.Getenv(step.NoVRFEnv) == "1"
	if !leaveVRF {
		tried = append(tried, "vrf")
		if err := w.vrf(); err != nil {
			errs = append(errs, fmt.Errorf("vrf: %w", err))
		}
	}
	for _, kind := range []string{"tun", "ipip", "gre", "wireguard"} {
		err := refused(kind)
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind, err))
		}
		tried = append(tried, "no "+kind)
	}
	errs = append(errs, ebpfnet(nil, "unpublish", "8081"), ebpfnet(nil, "unpublish", "8081/udp"),
		ebpfnet(nil, "attach", "--bridge", bridge, "--uplink", uplink))
	detail := strings.Join(tried, ", ")
	if leaveVRF {
		detail = step.LeavesOut(detail, step.NoVRF)
	}
	return detail, errors.Join(errs...)
}

// uplink tries one kind.
func (w *world) uplink(k uplinkKind, f loader.Features) (err error) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: rawDevice}, PeerName: rawOutside, PeerNamespace: netlink.NsFd(w.out.ns)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make %s: %w", rawDevice, err)
	}
	defer func() { err = errors.Join(err, deleteLinks(spareDevice, rawDevice)) }()
	raw, err := netlink.LinkByName(rawDevice)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(raw), k.host(raw)); err != nil {
		return err
	}
	err = w.out.do(func() error {
		raw, err := netlink.LinkByName(rawOutside)
		if err != nil {
			return err
		}
		name, err := k.outside(raw)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(raw), addTo(name, spareOutside+"/24"))
	})
	if err != nil {
		return err
	}
	args := []string{"attach", "--bridge", bridge, "--uplink", uplink, "--uplink", spareDevice}
	if k.parent {
		if err := addTo(rawDevice, "198.19.0.1/24"); err != nil {
			return err
		}
		args = append(args, "--uplink", rawDevice)
	}
	if err := errors.Join(addTo(spareDevice, spareHost+"/24"), ebpfnet(nil, args...)); err != nil {
		return err
	}
	if on, err := hooksOf(spareDevice); err != nil || on != fmt.Sprintf("%s ingress 1, egress 1", f.Hook()) {
		return fmt.Errorf("it has %s: %v", on, err)
	}
	// Some kinds take a moment until their link is up.
	if err := eventually(30*time.Second, func() error { return w.expect(place{}, "tcp", spareOutside+":80", "out", spareHost) }); err != nil {
		return fmt.Errorf("the host's own: %w", err)
	}
	var tries []try
	for _, network := range []string{"tcp", "udp"} {
		tries = append(tries,
			try{network + " out", func() error { return w.expect(w.c1, network, spareOutside+":80", "out", spareHost) }},
			try{network + " in", func() error { return w.expect(w.out, network, spareHost+":8081", "c1", spareOutside) }},
		)
	}
	return all(append(tries,
		try{"flow list, out", func() error { return carried("out", addrC1, spareOutside) }},
		try{"flow list, in", func() error { return carried("in", spareOutside, addrC1) }},
	)...)
}

// deleteLinks deletes those that are there.
func deleteLinks(names ...string) error {
	var errs []error
	for _, name := range names {
		if link, err := netlink.LinkByName(name); err == nil {
			errs = append(errs, netlink.LinkDel(link))
		}
	}
	return errors.Join(errs...)
}

// refused makes a device without a link-layer header, and has attach refuse it in one line.
func refused(kind string) (err error) {
	attrs := netlink.LinkAttrs{Name: spareDevice}
	local, remote := netlink.NewIPNet([]byte{203, 0, 113, 1}).IP, netlink.NewIPNet([]byte{203, 0, 113, 2}).IP
	var link netlink.Link
	switch kind {
	case "tun":
		link = &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN}
	case "ipip":
		link = &netlink.Iptun{LinkAttrs: attrs, Local: local, Remote: remote}
	case "gre":
		link = &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: remote}
	case "wireguard":
		link = &netlink.Wireguard{LinkAttrs: attrs}
	}
	// WireGuard's device turns this off for the whole machine when it is set up (drivers/net/wireguard/device.c).
	const redirects = "/proc/sys/net/ipv4/conf/all/send_redirects"
	was, err := os.ReadFile(redirects)
	if err != nil {
		return err
	}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deleteLinks(spareDevice), os.WriteFile(redirects, was, 0o644)) }()
	if err := addTo(spareDevice, spareHost+"/24"); err != nil {
		return err
	}
	out, err := exec.Command("ebpfnet", "attach", "--bridge", bridge, "--uplink", uplink, "--uplink", spareDevice).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err == nil || !strings.Contains(said, "no link-layer header") || strings.Contains(said, "\n") {
		return fmt.Errorf("attach is to refuse it in one line, and says %q", said)
	}
	return nil
}
