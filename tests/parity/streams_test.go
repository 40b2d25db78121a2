package parity

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// bare sends a datagram of any content from a client's socket, and waits for whatever comes back.
func (s *site) bare(t *testing.T, c *lab.Client, payload []byte) string {
	t.Helper()
	if _, err := c.Conn().Write(payload); err != nil {
		return reason(err)
	}
	return s.hear(t, c)
}

// hear waits for a datagram.
func (s *site) hear(t *testing.T, c *lab.Client) string {
	t.Helper()
	if err := c.Conn().SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Conn().Read(make([]byte, 2048)); err != nil {
		return reason(err)
	}
	return "answered"
}

// bulk sends that much over TCP, and asks for as much.
func bulk(c *lab.Client, size int64) string {
	result := func(got string, err error) string {
		switch {
		case err != nil:
			return reason(err)
		case got != lab.BulkDigest(size):
			return "something else"
		}
		return "whole"
	}
	return fmt.Sprintf("there %s, back %s", result(c.Sink(size, 5*patience)), result(c.Source(size, 5*patience)))
}

// halfClosed closes a client's own direction after it has asked for a good deal, and reads to the end.
func halfClosed(c *lab.Client) string {
	const size = 500_000
	conn := c.Conn().(*net.TCPConn)
	if err := conn.SetDeadline(time.Now().Add(5 * patience)); err != nil {
		return reason(err)
	}
	if _, err := fmt.Fprintf(conn, "source %d\n", size); err != nil {
		return reason(err)
	}
	if err := conn.CloseWrite(); err != nil {
		return reason(err)
	}
	n, err := io.Copy(io.Discard, conn)
	if err != nil {
		return fmt.Sprintf("%d bytes, then %s", n, reason(err))
	}
	if n != size {
		return fmt.Sprintf("%d bytes of %d, then the end", n, size)
	}
	return "all of the answer, then the end"
}

// abandoned asks the server to reset the connection, and says what the client gets.
func abandoned(c *lab.Client) string {
	conn := c.Conn()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return reason(err)
	}
	if _, err := io.WriteString(conn, "reset\n"); err != nil {
		return reason(err)
	}
	_, err := conn.Read(make([]byte, 1))
	if err == nil {
		err = errors.New("data")
	}
	return reason(err)
}

// streamChecks are whole TCP connections, from a container and to one.
func streamChecks() (list []check) {
	for _, way := range []struct {
		name string
		dial func(t *testing.T, s *site) *lab.Client
	}{
		{"outwards", func(t *testing.T, s *site) *lab.Client {
			return s.dial(t, s.a.NS, "tcp", lab.At(lab.RemoteIP, farPort))
		}},
		{"to a published port", func(t *testing.T, s *site) *lab.Client { return s.dial(t, s.Remote, "tcp", lab.At(lab.HostIP, 8080)) }},
		{"between neighbours", func(t *testing.T, s *site) *lab.Client { return s.dial(t, s.a.NS, "tcp", s.b.At(80)) }},
		{"to a neighbour's published port", func(t *testing.T, s *site) *lab.Client { return s.dial(t, s.a.NS, "tcp", lab.At(lab.HostIP, 8080)) }},
		{"from the host to 127.0.0.1", func(t *testing.T, s *site) *lab.Client { return s.dial(t, s.NS, "tcp", lab.At("127.0.0.1", 8080)) }},
	} {
		list = append(list, one("two megabytes "+way.name, func(t *testing.T, s *site) string { return bulk(way.dial(t, s), 2<<20) })...)
		list = append(list, one("half-closed "+way.name, func(t *testing.T, s *site) string { return halfClosed(way.dial(t, s)) })...)
		list = append(list, one("reset by the server "+way.name, func(t *testing.T, s *site) string { return abandoned(way.dial(t, s)) })...)
	}
	return list
}
