package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenedOn(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	port := netip.MustParseAddrPort(tcp.Addr().String()).Port()
	udp, err := net.ListenPacket("udp", ":0") // dual stack where there is IPv6
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	udpPort := netip.MustParseAddrPort(udp.LocalAddr().String()).Port()
	// A client's own port is not in the way.
	client, err := net.Dial("tcp4", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	clientPort := netip.MustParseAddrPort(client.LocalAddr().String()).Port()

	tests := []struct {
		name  string
		addr  string
		port  uint16
		proto uint8
		want  string // "" for free
		err   string
	}{
		{name: "same address", addr: "127.0.0.1", port: port, proto: unix.IPPROTO_TCP, want: fmt.Sprintf("port %d is listened on by ", port)},
		{name: "every address", addr: "0.0.0.0", port: port, proto: unix.IPPROTO_TCP, want: fmt.Sprintf("(pid %d)", os.Getpid())},
		{name: "another address", addr: "127.0.0.2", port: port, proto: unix.IPPROTO_TCP},
		{name: "wildcard listener", addr: "127.0.0.2", port: udpPort, proto: unix.IPPROTO_UDP, want: "is listened on by"},
		{name: "client", addr: "0.0.0.0", port: clientPort, proto: unix.IPPROTO_TCP},
		{name: "not an address of the host", addr: "192.0.2.7", port: 8080, proto: unix.IPPROTO_TCP, err: "the host has no address 192.0.2.7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := listenedOn(netip.MustParseAddr(tt.addr), tt.port, tt.port, tt.proto)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}

// H-12: the test for sockets in the way is part of publishing, which has a second for every port there is.
func TestListenedOnEveryPort(t *testing.T) {
	used := cpuTime(t)
	// 127.0.0.3 is used by nobody but wildcard sockets.
	if _, err := listenedOn(netip.MustParseAddr("127.0.0.3"), 1, 65535, unix.IPPROTO_UDP); err != nil {
		t.Fatal(err)
	}
	if d := cpuTime(t) - used; d > time.Second {
		t.Errorf("took %v", d)
	}
}

// cpuTime is what this process has used of a processor. Unlike the clock's time it does not grow because others are busy too.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestParseSocketAddr(t *testing.T) {
	tests := []struct {
		in   string
		want string
		port uint16
	}{
		{"0100007F:1F90", "127.0.0.1", 8080},
		{"00000000:0035", "0.0.0.0", 53},
		{"00000000000000000000000001000000:0050", "::1", 80},
		{"0000000000000000FFFF00000100007F:0050", "127.0.0.1", 80},
	}
	for _, tt := range tests {
		addr, port, ok := parseSocketAddr(tt.in)
		if !ok || addr.String() != tt.want || port != tt.port {
			t.Errorf("parseSocketAddr(%q) = %v, %d, %v, want %s, %d", tt.in, addr, port, ok, tt.want, tt.port)
		}
	}
	for _, in := range []string{"", "xyz:10", "0100007F", "01:10"} {
		if _, _, ok := parseSocketAddr(in); ok {
			t.Errorf("parseSocketAddr(%q) took it", in)
		}
	}
}
