package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialers is how many connections a part opens at a time.
const dialers = 4

// patience is how long an answer may take while hundreds of thousands of others are under way.
const patience = 2 * time.Minute

// tokenSize is the size of a question: the number of the connection and that of the part and round. The answer is the same, with the server's
// port before it.
const tokenSize = 8

// server answers each question on every connection with its own port and the question.
type server struct {
	listeners []net.Listener
	mu        sync.Mutex
	conns     []net.Conn
}

// listen takes addresses like 0.0.0.0:7100, which other parts may listen on too: the kernel shares the connections out.
func (s *server) listen(addrs []string) error {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(ctl, err)
	}}
	for _, a := range addrs {
		l, err := shared.Listen(context.Background(), "tcp4", a)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
		go s.accept(l)
	}
	return nil
}

func (s *server) accept(l net.Listener) {
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		go func() {
			answer := make([]byte, 2+tokenSize)
			binary.BigEndian.PutUint16(answer, port)
			for {
				if _, err := io.ReadFull(c, answer[2:]); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

func (s *server) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		reset(c.(*net.TCPConn))
	}
}

// reset ends a connection without TIME_WAIT.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// crowd is many open connections.
type crowd struct {
	mu    sync.Mutex
	conns []member
}

type member struct {
	*net.TCPConn
	port uint16 // that it dialled
}

// open takes a number and targets, and opens so many connections more, to one target after the other.
func (c *crowd) open(words []string) error {
	count, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	targets := words[1:]
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, dialers)
	for w := range dialers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				conn, err := net.DialTimeout("tcp4", targets[i%len(targets)], patience)
				if err != nil {
					errs[w] = fmt.Errorf("connection %d: %w", i, err)
					return
				}
				c.mu.Lock()
				c.conns = append(c.conns, member{conn.(*net.TCPConn), conn.RemoteAddr().(*net.TCPAddr).AddrPort().Port()})
				c.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ask takes the number of the part and round, sends a question of its own on every connection, and only then reads the answers.
func (c *crowd) ask(words []string) error {
	n, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil {
		return err
	}
	round := uint32(n)
	deadline := time.Now().Add(patience)
	question := make([]byte, tokenSize)
	for i, m := range c.conns {
		binary.BigEndian.PutUint32(question, uint32(i))
		binary.BigEndian.PutUint32(question[4:], round)
		if _, err := m.Write(question); err != nil {
			return fmt.Errorf("connection %d: ask: %w", i, err)
		}
	}
	answer := make([]byte, 2+tokenSize)
	var wrong []string
	for i, m := range c.conns {
		m.SetReadDeadline(deadline)
		if _, err := io.ReadFull(m, answer); err != nil {
			wrong = append(wrong, fmt.Sprintf("connection %d: %v", i, err))
			continue
		}
		port, number, turn := binary.BigEndian.Uint16(answer), binary.BigEndian.Uint32(answer[2:]), binary.BigEndian.Uint32(answer[6:])
		if port != m.port || number != uint32(i) || turn != round {
			wrong = append(wrong, fmt.Sprintf("connection %d to port %d in round %d got the answer to %d by port %d in round %d", i, m.port, round,
				number, port, turn))
		}
	}
	if n := len(wrong); n > 0 {
		return fmt.Errorf("%d of %d connections: %s", n, len(c.conns), strings.Join(wrong[:min(n, 5)], "; "))
	}
	return nil
}

func (c *crowd) close() {
	for _, m := range c.conns {
		reset(m.TCPConn)
	}
	c.conns = nil
}
