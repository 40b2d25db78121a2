package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// listener is a socket that takes new peers on an address of the host.
type listener struct {
	addr  netip.Addr // unspecified for every address
	port  uint16
	inode string
}

// overlaps tells whether a port published on addr (0.0.0.0 for all) would take packets from the listener.
func (l listener) overlaps(addr netip.Addr, port uint16) bool {
	return l.port == port && (l.addr.IsUnspecified() || addr.IsUnspecified() || l.addr == addr)
}

// listenedOn looks for a socket of this network namespace that listens on a port of addr from first to last, and names the first it finds,
// or "" where all are free. Trying to bind is the cheap test that most ports pass; a port that it cannot have may yet be free, because a
// connection's own port, or the rest of one, stands in the way of a bind and not of a published port.
func listenedOn(addr netip.Addr, first, last uint16, proto uint8) (string, error) {
	typ := unix.SOCK_STREAM
	if proto == unix.IPPROTO_UDP {
		typ = unix.SOCK_DGRAM
	}
	if proto == unix.IPPROTO_SCTP {
		// Nobody listens where the kernel has no SCTP; asking for a socket would load it.
		if _, err := os.Stat("/proc/thread-self/net/sctp"); err != nil {
			return "", nil
		}
	}
	var listeners []listener
	read := false
	for p := uint32(first); p <= uint32(last); p++ {
		port := uint16(p)
		err := tryBind(addr, port, typ, int(proto))
		switch {
		case err == nil:
			continue
		case errors.Is(err, unix.EADDRNOTAVAIL):
			return "", fmt.Errorf("the host has no address %s", addr)
		case !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EACCES):
			return "", fmt.Errorf("try port %d: %w", port, err)
		case proto == unix.IPPROTO_SCTP:
			return fmt.Sprintf("port %d/sctp is listened on by the host", port), nil
		}
		if !read {
			if listeners, err = readListeners("/proc/thread-self/net", proto); err != nil {
				return "", err
			}
			read = true
		}
		for _, l := range listeners {
			if l.overlaps(addr, port) {
				return fmt.Sprintf("port %d is listened on by %s on the host", port, socketOwner("/proc", l.inode)), nil
			}
		}
	}
	return "", nil
}

func tryBind(addr netip.Addr, port uint16, typ, proto int) error {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Unmap().As4(), Port: int(port)})
}

// readListeners reads the kernel's tables of TCP or UDP sockets, both families: a socket on :: takes IPv4 as well unless it was told not
// to, which the tables do not show.
func readListeners(dir string, proto uint8) ([]listener, error) {
	table, listening := "tcp", "0A" // TCP_LISTEN
	if proto == unix.IPPROTO_UDP {
		table, listening = "udp", "07" // TCP_CLOSE: a UDP socket without a peer
	}
	var listeners []listener
	for _, name := range []string{table, table + "6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("read sockets: %w", err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != listening {
				continue
			}
			if addr, port, ok := parseSocketAddr(fields[1]); ok {
				listeners = append(listeners, listener{addr: addr, port: port, inode: fields[9]})
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read sockets: %w", err)
		}
	}
	return listeners, nil
}

// parseSocketAddr reads an address and a port as /proc/net/tcp prints them: words of 32 bits in the machine's order, in hexadecimal.
func parseSocketAddr(s string) (netip.Addr, uint16, bool) {
	host, port, ok := strings.Cut(s, ":")
	words, err := hex.DecodeString(host)
	p, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(words)%4 != 0 {
		return netip.Addr{}, 0, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	return addr.Unmap(), uint16(p), ok
}

// socketOwner names the process that has the socket open. It looks through every process, so it is for error messages only.
func socketOwner(proc, inode string) string {
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return "a process"
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			break
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return "a process"
}
