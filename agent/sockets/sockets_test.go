package sockets

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Of two sockets with one peer the one that is meant ends, and its owner hears of it.
func TestEndUDP(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root")
		}
		t.Skip("not root")
	}
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	dial := func() (*net.UDPConn, uint64) {
		t.Helper()
		c, err := net.DialUDP("udp4", nil, peer.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var cookie uint64
		var serr error
		if err := raw.Control(func(fd uintptr) { cookie, serr = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) }); err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		return c, cookie
	}
	ended, cookie := dial()
	stays, _ := dial()
	if n, err := EndUDP(map[uint64]bool{cookie: true, 1 << 62: true}); n != 1 || err != nil {
		t.Fatalf("%d ended, %v", n, err)
	}
	if _, err := ended.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("its owner hears %v", err)
	}
	if _, err := stays.Write([]byte("x")); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if n, err := EndUDP(nil); n != 0 || err != nil {
		t.Errorf("none asked for: %d ended, %v", n, err)
	}
}
