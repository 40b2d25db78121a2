package doctor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is asked of a device's driver (include/uapi/linux/ethtool.h).
const (
	ethtoolGstrings  = 0x1b
	ethtoolGfeatures = 0x3a
	ethtoolSsetInfo  = 0x37
	ethSsFeatures    = 4
	ethGstringLen    = 32
)

// offloads is what a device does for the kernel: its driver's name, and the features that are on, as `ethtool -k` calls them but for the
// few that have older names there.
type offloads struct {
	driver string
	on     map[string]bool
}

func readOffloads(device string) (offloads, error) {
	o := offloads{on: map[string]bool{}}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return o, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, device)
	if err != nil {
		return o, fmt.Errorf("ask the driver of %s: %w", device, err)
	}
	o.driver = unix.ByteSliceToString(info.Driver[:])

	// struct ethtool_sset_info: cmd, reserved, sset_mask (64 bits), one length for each bit.
	size := make([]byte, 20)
	binary.NativeEndian.PutUint32(size, ethtoolSsetInfo)
	binary.NativeEndian.PutUint64(size[8:], 1<<ethSsFeatures)
	if err := ethtool(fd, device, size); err != nil {
		return o, fmt.Errorf("count the features of %s: %w", device, err)
	}
	n := int(binary.NativeEndian.Uint32(size[16:]))

	// struct ethtool_gstrings: cmd, string_set, len, the names.
	names := make([]byte, 12+n*ethGstringLen)
	binary.NativeEndian.PutUint32(names, ethtoolGstrings)
	binary.NativeEndian.PutUint32(names[4:], ethSsFeatures)
	binary.NativeEndian.PutUint32(names[8:], uint32(n))
	if err := ethtool(fd, device, names); err != nil {
		return o, fmt.Errorf("name the features of %s: %w", device, err)
	}

	// struct ethtool_gfeatures: cmd, size in blocks of 32 features, for each block available, requested, active and never_changed.
	blocks := (n + 31) / 32
	state := make([]byte, 8+16*blocks)
	binary.NativeEndian.PutUint32(state, ethtoolGfeatures)
	binary.NativeEndian.PutUint32(state[4:], uint32(blocks))
	if err := ethtool(fd, device, state); err != nil {
		return o, fmt.Errorf("read the features of %s: %w", device, err)
	}
	for i := range n {
		name, _, _ := bytes.Cut(names[12+i*ethGstringLen:12+(i+1)*ethGstringLen], []byte{0})
		active := binary.NativeEndian.Uint32(state[8+16*(i/32)+8:])
		if active&(1<<(i%32)) != 0 {
			o.on[string(name)] = true
		}
	}
	return o, nil
}

// ethtool makes one request; the kernel answers into the same memory.
func ethtool(fd int, device string, request []byte) error {
	// struct ifreq, its union as a pointer.
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], device)
	ifr.data = unsafe.Pointer(&request[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	runtime.KeepAlive(request)
	if errno != 0 {
		return errno
	}
	return nil
}
