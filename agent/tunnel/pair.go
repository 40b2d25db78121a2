package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// farMTU lets everything through that the near end takes, with what is put before it.
const farMTU = 65535

// FarName is the name of the other end of the pair whose near end has this one.
func FarName(name string) string {
	if instance, ok := strings.CutPrefix(name, "eb-"); ok {
		return "ef-" + instance
	}
	return "ebpfnet1"
}

// EnsurePair makes a pair of devices, or what is wrong with it right. What is sent into the near end leaves it in packets of its MTU that have
// whole checksums, because the near end offers the kernel no help with either, and comes in by the far end, where a program puts each into a
// datagram. That is for receivers of flannel's, and for what the host itself sends. Out: their ifindexes, and what had to be done, empty for nothing.
func (d *Device) EnsurePair() (near, far int, done string, err error) {
	link, err := netlink.LinkByName(d.Name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return 0, 0, "", fmt.Errorf("find device %s: %w", d.Name, err)
	case isPair(link):
		other, err := netlink.LinkByName(FarName(d.Name))
		if err != nil {
			return 0, 0, "", fmt.Errorf("find device %s: %w", FarName(d.Name), err)
		}
		done, err := d.mendPair(link, other)
		return link.Attrs().Index, other.Attrs().Index, done, err
	default:
		if v, ok := link.(*netlink.Vxlan); !ok || !v.FlowBased {
			return 0, 0, "", fmt.Errorf("device %s is a %s and not ours: rename or remove it", d.Name, link.Type())
		}
		if err := netlink.LinkDel(link); err != nil {
			return 0, 0, "", fmt.Errorf("replace device %s: %w", d.Name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, d.MTU
	fresh := &netlink.Veth{LinkAttrs: attrs, PeerName: FarName(d.Name), PeerMTU: farMTU}
	if err := netlink.LinkAdd(fresh); err != nil {
		return 0, 0, "", fmt.Errorf("make devices %s and %s: %w", d.Name, FarName(d.Name), err)
	}
	link, err = netlink.LinkByName(d.Name)
	if err != nil {
		return 0, 0, "", fmt.Errorf("find device %s: %w", d.Name, err)
	}
	other, err := netlink.LinkByName(FarName(d.Name))
	if err == nil {
		_, err = d.mendPair(link, other)
	}
	if err != nil {
		// One that cannot work is not left behind.
		return 0, 0, "", errors.Join(err, netlink.LinkDel(link))
	}
	return link.Attrs().Index, other.Attrs().Index, "made", nil
}

// mendPair sets what can be set on devices that are there.
func (d *Device) mendPair(link, other netlink.Link) (done string, err error) {
	for _, name := range []string{d.Name, FarName(d.Name)} {
		// The kernel would speak IPv6 with itself.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("turn IPv6 off on %s: %w", name, err)
		}
	}
	if err := noChecksums(d.Name); err != nil {
		return "", fmt.Errorf("turn checksum offload off on %s: %w", d.Name, err)
	}
	if other.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(other); err != nil {
			return "", fmt.Errorf("set device %s up: %w", other.Attrs().Name, err)
		}
		done = "up"
	}
	own := *d
	own.MAC = link.Attrs().HardwareAddr // nobody sees it
	mended, err := own.mend(link)
	if mended != "" {
		done = mended
	}
	return done, err
}

// isPair tells whether a device is the near end of such a pair.
func isPair(link netlink.Link) bool {
	if link.Type() != "veth" {
		return false
	}
	other, err := netlink.LinkByIndex(link.Attrs().ParentIndex)
	return err == nil && other.Attrs().Name == FarName(link.Attrs().Name) && other.Attrs().ParentIndex == link.Attrs().Index
}

// ethtoolSetTxCsum is ETHTOOL_STXCSUM (include/uapi/linux/ethtool.h). The kernel turns segmentation off with it, which needs it.
const ethtoolSetTxCsum = 0x17

// noChecksums makes the kernel finish every packet itself before a device has it.
func noChecksums(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{ethtoolSetTxCsum, 0}
	var request struct { // struct ifreq, its union as a pointer
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return errno
	}
	return nil
}

// Reserve takes the port that the other hosts send to, until it is closed: nobody else on this host is to have it, and the kernel finds by it
// which connection an error about a datagram is for. Nothing is ever read there: a program has taken the packets before.
func Reserve(at netip.AddrPort) (io.Closer, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d of %s is in use: `ss -ulpn` shows by whom (flanneld?), and only one can have it", at.Port(), at.Addr())
	}
	if err != nil {
		return nil, fmt.Errorf("take UDP port %d of %s: %w", at.Port(), at.Addr(), err)
	}
	// As little memory as can be for what comes by a device without a program.
	if err := conn.SetReadBuffer(0); err != nil {
		return nil, errors.Join(fmt.Errorf("take UDP port %d of %s: %w", at.Port(), at.Addr(), err), conn.Close())
	}
	return conn, nil
}
