package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The first byte of a connection says what it is for.
const (
	wantAnswers = 'a' // a byte for each byte
	wantSink    = 's' // the number of bytes that came, in 8, once the client has ended
	wantCount   = 'c' // the datagrams of the sink port: counted from now, told in 8 bytes for each byte that comes
)

// sunk counts the datagrams that came to the port behind the served one.
var sunk atomic.Uint64

// serve answers over TCP and UDP, counts the datagrams that come to the port after each, and returns only with an error.
func serve(ports []uint16) error {
	failed := make(chan error, 3*len(ports))
	for _, port := range ports {
		go func() { failed <- pinned(func() error { return serveUDP(port, true) }) }()
		go func() { failed <- pinned(func() error { return serveUDP(port+1, false) }) }()
		go func() { failed <- pinned(func() error { return serveTCP(port) }) }()
	}
	return <-failed
}

// pinned runs fn on a thread of its own.
func pinned(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return fn()
}

func listen(kind int, port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)}); err != nil {
		return -1, fmt.Errorf("bind port %d: %w", port, err)
	}
	return fd, nil
}

func serveUDP(port uint16, answer bool) error {
	fd, err := listen(unix.SOCK_DGRAM, port)
	if err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		if !answer {
			if _, err := unix.Read(fd, buf); err == nil {
				sunk.Add(1)
			}
			continue
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err == nil {
			_ = unix.Sendto(fd, buf[:n], 0, from) // who is not there any more needs no answer
		}
	}
}

func serveTCP(port uint16) error {
	fd, err := listen(unix.SOCK_STREAM, port)
	if err != nil {
		return err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	// One connection at a time needs no thread of its own: what is accepted is served here until it is known to stay.
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		one := make([]byte, 1)
		if n, err := unix.Read(conn, one); n != 1 || err != nil {
			unix.Close(conn)
			continue
		}
		if one[0] != wantAnswers {
			go func() { _ = pinned(func() error { return serveOther(conn, one[0]) }) }()
			continue
		}
		_ = unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for {
			if n, err := unix.Write(conn, one); n != 1 || err != nil {
				break
			}
			if n, err := unix.Read(conn, one); n != 1 || err != nil {
				break
			}
		}
		unix.Close(conn)
	}
}

func serveOther(conn int, want byte) error {
	defer unix.Close(conn)
	buf := make([]byte, 256<<10)
	var total uint64
	begun := sunk.Load()
	for {
		n, err := unix.Read(conn, buf)
		if err != nil {
			return err
		}
		if want == wantCount && n > 0 {
			if _, err := unix.Write(conn, binary.BigEndian.AppendUint64(nil, sunk.Load()-begun)); err != nil {
				return err
			}
			continue
		}
		if n == 0 {
			break
		}
		total += uint64(n)
	}
	_, err := unix.Write(conn, binary.BigEndian.AppendUint64(nil, total))
	return err
}
