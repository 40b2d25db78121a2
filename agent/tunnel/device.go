package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is what leads to the other hosts: a VXLAN device whose tunnel endpoints the programs choose for each packet, or a pair of devices
// behind which they put packets into datagrams.
type Device struct {
	Name string
	Port uint16 // of VXLAN
	MTU  int
	MAC  net.HardwareAddr
	Addr netip.Addr // this host's in the network, on the device as a /32
}

// DeviceName is the device's name in an instance: two in one network namespace have one each.
func DeviceName(instance, defaultInstance string) string {
	if instance == defaultInstance {
		return "ebpfnet0"
	}
	const room = unix.IFNAMSIZ - 1 - len("eb-")
	return "eb-" + instance[:min(len(instance), room)]
}

// Ensure makes the device, or what is wrong with it right. Out: its ifindex, and what had to be done, empty for nothing.
func (d *Device) Ensure() (ifindex int, done string, err error) {
	link, err := netlink.LinkByName(d.Name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return 0, "", fmt.Errorf("find device %s: %w", d.Name, err)
	default:
		vxlan, ok := link.(*netlink.Vxlan)
		if !ok && !isPair(link) {
			return 0, "", fmt.Errorf("device %s is a %s and not ours: rename or remove it", d.Name, link.Type())
		}
		if ok && vxlan.FlowBased && vxlan.Port == int(d.Port) && !vxlan.Learning {
			done, err := d.mend(vxlan)
			return vxlan.Index, done, err
		}
		if err := netlink.LinkDel(link); err != nil {
			return 0, "", fmt.Errorf("replace device %s: %w", d.Name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = d.Name, d.MTU, d.MAC
	fresh := &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Learning: false, Port: int(d.Port)}
	if err := netlink.LinkAdd(fresh); err != nil {
		return 0, "", fmt.Errorf("make device %s: %w", d.Name, err)
	}
	if _, err := d.mend(fresh); err != nil {
		// One that cannot work is not left behind.
		return 0, "", errors.Join(err, netlink.LinkDel(fresh))
	}
	return fresh.Index, "made", nil
}

// mend sets what can be set on a device that is there.
func (d *Device) mend(link netlink.Link) (done string, err error) {
	is := link.Attrs()
	var did []string
	if !bytes.Equal(is.HardwareAddr, d.MAC) {
		if err := netlink.LinkSetHardwareAddr(link, d.MAC); err != nil {
			return "", fmt.Errorf("set the MAC address of %s: %w", d.Name, err)
		}
		did = append(did, "MAC address")
	}
	if is.MTU != d.MTU {
		if err := netlink.LinkSetMTU(link, d.MTU); err != nil {
			return "", fmt.Errorf("set the MTU of %s to %d: %w", d.Name, d.MTU, err)
		}
		did = append(did, "MTU")
	}
	// Nobody answers ARP in there; without it the kernel sends to any neighbour at once, and a program writes the address.
	if is.RawFlags&unix.IFF_NOARP == 0 {
		if err := netlink.LinkSetARPOff(link); err != nil {
			return "", fmt.Errorf("turn ARP off on %s: %w", d.Name, err)
		}
	}
	if is.Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return "", d.explain(err)
		}
		did = append(did, "up")
	}
	changed, err := d.address(link)
	if err != nil {
		return "", err
	}
	if changed {
		did = append(did, "address")
	}
	return strings.Join(did, ", "), nil
}

// address makes Addr the device's only IPv4 address. Its scope is the widest: Docker's masquerade rule also takes what the host itself sends
// from this address, and would otherwise pick the source from another device, which no other host takes from the tunnel.
func (d *Device) address(link netlink.Link) (changed bool, err error) {
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", d.Name, err)
	}
	there := false
	for _, a := range have {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && ip == d.Addr && a.Scope == unix.RT_SCOPE_UNIVERSE {
			there = true
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return false, fmt.Errorf("remove address %s from %s: %w", a.IPNet, d.Name, err)
		}
		changed = true
	}
	if there || !d.Addr.IsValid() {
		return changed, nil
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: d.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_UNIVERSE}
	if err := netlink.AddrAdd(link, a); err != nil {
		return false, fmt.Errorf("add address %s to %s: %w", d.Addr, d.Name, err)
	}
	return true, nil
}

// explain names the device that has the port already, where that is why ours cannot be used.
func (d *Device) explain(err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("set device %s up: %w", d.Name, err)
	}
	links, lerr := netlink.LinkList()
	if lerr == nil || errors.Is(lerr, netlink.ErrDumpInterrupted) {
		for _, l := range links {
			if v, ok := l.(*netlink.Vxlan); ok && v.Port == int(d.Port) && v.Name != d.Name {
				return fmt.Errorf("set device %s up: UDP port %d belongs to the VXLAN device %s: stop what uses it, and `ip link delete %s`", d.Name,
					d.Port, v.Name, v.Name)
			}
		}
	}
	return fmt.Errorf("set device %s up: UDP port %d is in use: `ss -ulpn` shows by whom", d.Name, d.Port)
}

// Remove takes the device away. One that is not there is fine; one that is not ours stays.
func Remove(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if v, ok := link.(*netlink.Vxlan); (!ok || !v.FlowBased) && !isPair(link) {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove device %s: %w", name, err)
	}
	return nil
}
