package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

// Patience is how long a client waits for what should come, and Doubt for what should not.
const (
	Patience = 3 * time.Second
	Doubt    = 400 * time.Millisecond
)

// Asking is how a client asks. Options change it.
type Asking struct {
	from        netip.AddrPort
	unconnected bool
	token       string
	timeout     time.Duration
}

// Option changes how a client asks.
type Option func(*Asking)

// From binds the client's socket, to "ip:port", "ip:0" or ":port".
func From(addr string) Option {
	return func(a *Asking) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			panic(err)
		}
		if host == "" {
			host = "0.0.0.0"
		}
		a.from = netip.MustParseAddrPort(net.JoinHostPort(host, port))
	}
}

// Unconnected makes a UDP client send without connecting its socket, and take an answer from whomever it comes.
func Unconnected() Option { return func(a *Asking) { a.unconnected = true } }

// Within changes the client's patience, for the connection and for each answer.
func Within(d time.Duration) Option { return func(a *Asking) { a.timeout = d } }

// Size makes the client send a token of that many bytes.
func Size(n int) Option {
	return func(a *Asking) {
		pad := make([]byte, max(0, n-len(a.token)))
		for i := range pad {
			pad[i] = 'a' + byte(i%26)
		}
		a.token += string(pad)
	}
}

func asking(opts []Option) Asking {
	a := Asking{token: fmt.Sprintf("token-%d-", time.Now().UnixNano()), timeout: Patience}
	for _, opt := range opts {
		opt(&a)
	}
	return a
}

// Client is a conversation over a socket in a namespace.
type Client struct {
	*echo.Client
	asking Asking
	turn   int
}

// TryDial connects a socket of the namespace to a server.
func (n *Netns) TryDial(network, to string, opts ...Option) (*Client, error) {
	a := asking(opts)
	// A server's answer to an earlier client on the same port may still be in TIME_WAIT.
	dialer := net.Dialer{Timeout: a.timeout}
	if network != "udp" || a.from.IsValid() { // a UDP socket that may choose its port might choose that of another one
		dialer.Control = reuse
	}
	if a.from.IsValid() {
		if network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(a.from)
		} else {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(a.from)
		}
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = dialer.Dial(network, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return &Client{Client: echo.NewClient(conn), asking: a}, nil
}

// Reset ends a TCP connection with a reset, and frees its port. A program that another goroutine starts in this moment has a copy of the
// socket until it runs, and would keep it open.
func (c *Client) Reset(t testing.TB) {
	t.Helper()
	if err := c.Conn().(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	c.Close()
}

func reuse(_, _ string, raw syscall.RawConn) error {
	var serr error
	err := raw.Control(func(fd uintptr) { serr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	return errors.Join(err, serr)
}

// Dial is TryDial for what must succeed. The socket is closed when the test ends.
func (n *Netns) Dial(t testing.TB, network, to string, opts ...Option) *Client {
	t.Helper()
	c, err := n.TryDial(network, to, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TryAsk asks once more on the client's socket.
func (c *Client) TryAsk() (echo.Answer, error) {
	c.turn++
	return c.Client.Ask(fmt.Sprintf("%s%d", c.asking.token, c.turn), c.asking.timeout)
}

// Ask is TryAsk for what must succeed.
func (c *Client) Ask(t testing.TB) echo.Answer {
	t.Helper()
	answer, err := c.TryAsk()
	if err != nil {
		t.Fatalf("ask %s from %s: %v", c.Conn().RemoteAddr(), c.Conn().LocalAddr(), err)
	}
	return answer
}

// TryAsk asks a server once, over a socket of its own. An answer that a UDP server of several addresses gave from another one is an error.
func (n *Netns) TryAsk(network, to string, opts ...Option) (echo.Answer, error) {
	a := asking(opts)
	if a.unconnected {
		return n.askFrom(to, a)
	}
	c, err := n.TryDial(network, to, opts...)
	if err != nil {
		return echo.Answer{}, err
	}
	defer c.Close()
	answer, err := c.TryAsk()
	if err != nil {
		return answer, fmt.Errorf("%s: ask %s %s: %w", n.Name, network, to, err)
	}
	if answer.From.String() != to {
		return answer, fmt.Errorf("%s: asked %s, answered by %s", n.Name, to, answer.From)
	}
	return answer, nil
}

func (n *Netns) askFrom(to string, a Asking) (echo.Answer, error) {
	var conn *net.UDPConn
	err := n.Do(func() (err error) {
		local := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		if a.from.IsValid() {
			local = a.from
		}
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
		return err
	})
	if err != nil {
		return echo.Answer{}, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer conn.Close()
	answer, err := echo.AskFrom(conn, netip.MustParseAddrPort(to), a.token, a.timeout)
	if err != nil {
		return answer, fmt.Errorf("%s: ask udp %s: %w", n.Name, to, err)
	}
	if answer.From.String() != to {
		return answer, fmt.Errorf("%s: asked %s, answered by %s", n.Name, to, answer.From)
	}
	return answer, nil
}

// Ask is TryAsk for what must succeed.
func (n *Netns) Ask(t testing.TB, network, to string, opts ...Option) echo.Answer {
	t.Helper()
	answer, err := n.TryAsk(network, to, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Unanswered fails the test where a server answers. A refusal, silence, and a handshake that nothing follows all count as no answer.
func (n *Netns) Unanswered(t testing.TB, network, to string, opts ...Option) {
	t.Helper()
	answer, err := n.TryAsk(network, to, append([]Option{Within(Doubt)}, opts...)...)
	if err == nil {
		t.Fatalf("%s: %s %s was answered by %s, which saw %s", n.Name, network, to, answer.Name, answer.Client)
	}
}

// Serve answers over TCP and UDP on a port of the namespace until the test ends.
func (n *Netns) Serve(t testing.TB, name, addr string) {
	t.Helper()
	var tcp net.Listener
	var udp *net.UDPConn
	err := n.Do(func() (err error) {
		if tcp, err = net.Listen("tcp4", addr); err != nil {
			return err
		}
		t.Cleanup(func() { tcp.Close() })
		pc, err := net.ListenPacket("udp4", addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { pc.Close() })
		udp = pc.(*net.UDPConn)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: serve: %v", n.Name, err)
	}
	go func() { _ = echo.ServeTCP(tcp, name) }()
	go func() { _ = echo.ServeUDP(udp, name) }()
}

// ListenUDP opens an unconnected socket in the namespace until the test ends. Errors that come back by ICMP do not reach it.
func (n *Netns) ListenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := n.Do(func() error {
		pc, err := net.ListenPacket("udp4", addr)
		if err != nil {
			return err
		}
		conn = pc.(*net.UDPConn)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: listen: %v", n.Name, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// AskFrom asks a server from an unconnected socket; whoever answers is in the answer.
func AskFrom(conn *net.UDPConn, to string, within time.Duration) (echo.Answer, error) {
	a := asking(nil)
	return echo.AskFrom(conn, netip.MustParseAddrPort(to), a.token, within)
}

// Send sends one datagram from a socket of the namespace, to a multicast or broadcast address too.
func (n *Netns) Send(t testing.TB, to string, payload []byte) {
	t.Helper()
	conn := n.ListenUDP(t, ":0")
	if _, err := conn.WriteToUDPAddrPort(payload, netip.MustParseAddrPort(to)); err != nil {
		t.Fatalf("%s: send to %s: %v", n.Name, to, err)
	}
}
