package lease

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
)

// gate stands between a host and etcd. Shut, it passes nothing and answers nothing, as a network that drops does.
type gate struct {
	target string
	l      net.Listener

	mu     sync.Mutex
	passes *sync.Cond
	closed bool
	conns  []net.Conn
}

func newGate(t testing.TB, url string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{target: strings.TrimPrefix(url, "http://"), l: l}
	g.passes = sync.NewCond(&g.mu)
	t.Cleanup(func() {
		l.Close()
		g.open()
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, c := range g.conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(c)
		}
	}()
	return g
}

func (g *gate) url() string { return "http://" + g.l.Addr().String() }

func (g *gate) set(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
	g.passes.Broadcast()
}

func (g *gate) shut() { g.set(true) }
func (g *gate) open() { g.set(false) }

func (g *gate) serve(c net.Conn) {
	back, err := net.Dial("tcp", g.target)
	if err != nil {
		c.Close()
		return
	}
	g.mu.Lock()
	g.conns = append(g.conns, c, back)
	g.mu.Unlock()
	go g.copy(c, back)
	g.copy(back, c)
}

func (g *gate) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		g.mu.Lock()
		for g.closed {
			g.passes.Wait()
		}
		g.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) count() int { return strings.Count(l.String(), "\n") }

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Writer(l), nil)) }
