package echo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Answer is a reply and what the client's own socket says about the conversation.
type Answer struct {
	Reply
	Self netip.AddrPort // getsockname
	From netip.AddrPort // the address that the answer came from: getpeername, or recvfrom's
}

// Seen is the client's address as the server saw it.
func (a Answer) Seen() netip.AddrPort {
	p, _ := netip.ParseAddrPort(a.Client)
	return p
}

// Dialled is the server's address as the server saw it.
func (a Answer) Dialled() netip.AddrPort {
	p, _ := netip.ParseAddrPort(a.Local)
	return p
}

// Client talks over one connected socket, TCP or UDP.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	udp  bool
}

// NewClient talks over conn and owns it.
func NewClient(conn net.Conn) *Client {
	_, udp := conn.(*net.UDPConn)
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), udp: udp}
}

// Conn is the socket.
func (c *Client) Conn() net.Conn { return c.conn }

// Close ends the conversation.
func (c *Client) Close() error { return c.conn.Close() }

// Ask sends the token and waits for its answer. An answer to another token is an error over TCP; over UDP, where answers may come late, it
// is passed over.
func (c *Client) Ask(tok string, timeout time.Duration) (Answer, error) {
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Answer{}, err
	}
	end := ""
	if !c.udp {
		end = "\n"
	}
	if _, err := io.WriteString(c.conn, tok+end); err != nil {
		return Answer{}, fmt.Errorf("send: %w", err)
	}
	want := tok
	if c.udp {
		want = token([]byte(tok))
	}
	for {
		reply, err := c.read()
		if err != nil {
			return Answer{}, fmt.Errorf("receive: %w", err)
		}
		if reply.Token == want {
			return c.answer(reply)
		}
		if !c.udp {
			return Answer{}, fmt.Errorf("receive: asked %q, answered %q", want, reply.Token)
		}
	}
}

func (c *Client) read() (Reply, error) {
	var reply Reply
	if c.udp {
		buf := make([]byte, 2048)
		n, err := c.conn.Read(buf)
		if err != nil {
			return reply, err
		}
		return reply, json.Unmarshal(buf[:n], &reply)
	}
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		return reply, err
	}
	return reply, json.Unmarshal(bytes.TrimSpace(line), &reply)
}

func (c *Client) answer(reply Reply) (Answer, error) {
	a := Answer{Reply: reply}
	var err error
	if a.From, err = peer(c.conn); err != nil {
		return a, fmt.Errorf("getpeername: %w", err)
	}
	a.Self, err = netip.ParseAddrPort(c.conn.LocalAddr().String())
	return a, err
}

// Sink sends n bytes over TCP and returns the digest of what arrived.
func (c *Client) Sink(n int64, timeout time.Duration) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.Copy(c.conn, io.MultiReader(strings.NewReader(fmt.Sprintf("sink %d\n", n)), bulk(n))); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	reply, err := c.read()
	return reply.Token, err
}

// Source asks for n bytes over TCP and returns the digest of what arrived.
func (c *Client) Source(n int64, timeout time.Duration) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c.conn, "source %d\n", n); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	return digest(c.in, n)
}

// AskFrom sends the token from an unconnected UDP socket and waits for its answer, whoever sends it.
func AskFrom(conn *net.UDPConn, to netip.AddrPort, tok string, timeout time.Duration) (Answer, error) {
	if _, err := conn.WriteToUDPAddrPort([]byte(tok), to); err != nil {
		return Answer{}, fmt.Errorf("send: %w", err)
	}
	return Receive(conn, []byte(tok), timeout)
}

// Receive waits for the answer to a token, however it was sent, and whoever answers.
func Receive(conn *net.UDPConn, tok []byte, timeout time.Duration) (Answer, error) {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return Answer{}, err
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return Answer{}, fmt.Errorf("receive: %w", err)
		}
		a := Answer{From: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		if err := json.Unmarshal(buf[:n], &a.Reply); err != nil {
			return Answer{}, fmt.Errorf("receive from %s: %w", from, err)
		}
		if a.Token == token(tok) {
			a.Self, err = netip.ParseAddrPort(conn.LocalAddr().String())
			return a, err
		}
	}
}
