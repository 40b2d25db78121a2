package parity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

// reason is how the table names what a client got instead of an answer.
func reason(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, unix.ECONNRESET):
		return "reset"
	case errors.Is(err, unix.EHOSTUNREACH):
		return "host unreachable"
	case errors.Is(err, unix.ENETUNREACH):
		return "network unreachable"
	case errors.Is(err, unix.EACCES):
		return "prohibited"
	case errors.Is(err, unix.EMSGSIZE):
		return "too long"
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(),
		errors.Is(err, unix.ETIMEDOUT):
		return "silence"
	}
	return "error " + strings.ReplaceAll(err.Error(), "|", "/")
}

// options adds what every client of the table has: patience, and where it names none, a source port of its own.
func (s *site) options(opts []lab.Option) []lab.Option {
	return append([]lab.Option{lab.Within(patience), lab.From(fmt.Sprintf(":%d", s.port()))}, opts...)
}

// ask asks a server once, from a socket of its own: who answers, and what address it saw.
func (s *site) ask(from *lab.Netns, network, to string, opts ...lab.Option) string {
	c, err := from.TryDial(network, to, s.options(opts)...)
	if err != nil {
		return reason(err)
	}
	defer c.Close()
	return s.again(c)
}

// again asks on a client's socket.
func (s *site) again(c *lab.Client) string {
	a, err := c.TryAsk()
	if err == nil {
		out := s.answer(a)
		if to, _ := netip.ParseAddrPort(c.Conn().RemoteAddr().String()); to != a.From {
			out += ", getpeername " + s.address(a.From.Addr())
		}
		return out
	}
	if _, udp := c.Conn().(*net.UDPConn); udp {
		return reason(err)
	}
	return "connected, then " + reason(err)
}

// answer is how the table shows an answer.
func (s *site) answer(a echo.Answer) string {
	port := "own port"
	if a.Seen().Port() != a.Self.Port() {
		port = "another port"
	}
	return fmt.Sprintf("%s saw %s, %s", a.Name, s.address(a.Seen().Addr()), port)
}

// loose asks a UDP server from an unconnected socket, which takes an answer from anybody.
func (s *site) loose(t *testing.T, from *lab.Netns, to string, opts ...lab.Option) string {
	conn := from.ListenUDP(t, fmt.Sprintf(":%d", s.port()))
	a, err := lab.AskFrom(conn, to, patience)
	if err != nil {
		return reason(err)
	}
	out := fmt.Sprintf("%s saw %s, %s", a.Name, s.address(a.Seen().Addr()), map[bool]string{true: "own port", false: "another port"}[a.Seen().Port() == a.Self.Port()])
	if a.From.String() != to {
		out += ", answered by " + s.address(a.From.Addr())
	}
	return out
}

// dial opens a client for several turns.
func (s *site) dial(t *testing.T, from *lab.Netns, network, to string, opts ...lab.Option) *lab.Client {
	t.Helper()
	return from.Dial(t, network, to, s.options(opts)...)
}

// until waits for a packet, and tells whether it came.
func until(c *lab.Capture, match func(lab.Packet) bool) (lab.Packet, bool) {
	return untilWithin(patience, c, match)
}

func untilWithin(within time.Duration, c *lab.Capture, match func(lab.Packet) bool) (lab.Packet, bool) {
	for deadline := time.Now().Add(within); ; {
		if found := c.All(match); len(found) > 0 {
			return found[0], true
		}
		if time.Now().After(deadline) {
			return lab.Packet{}, false
		}
	}
}

// carrying matches frames that have a text in them.
func carrying(text string) func(lab.Packet) bool {
	return func(p lab.Packet) bool { return strings.Contains(string(p.Data), text) }
}

// onSocket runs fn on a client's file descriptor.
func onSocket(t testing.TB, conn net.Conn, fn func(fd int) error) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil || inner != nil {
		t.Fatal(err, inner)
	}
}

// both makes a check for TCP and one for UDP.
func both(name string, see func(t *testing.T, s *site, network string) string) []check {
	var list []check
	for _, network := range []string{"tcp", "udp"} {
		list = append(list, check{name: name + ", " + strings.ToUpper(network), see: func(t *testing.T, s *site) string { return see(t, s, network) }})
	}
	return list
}

// one makes a list of one check.
func one(name string, see func(t *testing.T, s *site) string) []check {
	return []check{{name: name, see: see}}
}

// alone makes a list of one check that changes what others rely on.
func alone(name string, see func(t *testing.T, s *site) string) []check {
	return []check{{name: name, alone: true, see: see}}
}
