package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/bench/meter/result"
)

// lost is how long a datagram's answer is waited for.
const lost = 200 * time.Millisecond

func connect(kind int, to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return fd, err
}

// timed calls one until d has passed, and makes a result of how long each call took.
func timed(d time.Duration, one func() error) (result.Result, error) {
	took := make([]uint32, 0, 1<<20)
	begun := time.Now()
	last := begun
	for last.Sub(begun) < d {
		if err := one(); err != nil {
			return result.Result{}, err
		}
		now := time.Now()
		took = append(took, uint32(min(now.Sub(last), time.Hour>>12)))
		last = now
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))]) / 1e3 }
	return result.Result{Count: uint64(len(took)), Seconds: last.Sub(begun).Seconds(), P50: at(0.5), P99: at(0.99), P999: at(0.999)}, nil
}

// exchange sends a byte and waits for one.
func exchange(fd int, b []byte) error {
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	for {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR): // a call that has a timeout is not begun again by itself, signal(7)
		case err == nil && n == 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

func tcpRequests(to netip.AddrPort, d time.Duration, _ int) (r result.Result, err error) {
	err = pinned(func() error {
		fd, err := connect(unix.SOCK_STREAM, to)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := []byte{wantAnswers}
		r, err = timed(d, func() error { return exchange(fd, b) })
		return err
	})
	return r, err
}

func udpRequests(to netip.AddrPort, d time.Duration, _ int) (r result.Result, err error) {
	err = pinned(func() error {
		fd, err := connect(unix.SOCK_DGRAM, to)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		limit := unix.NsecToTimeval(lost.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		b, missed := []byte{1}, 0
		r, err = timed(d, func() error {
			err := exchange(fd, b)
			if errors.Is(err, unix.EAGAIN) {
				if missed++; missed < 10 {
					return nil // it counts as a slow one
				}
			}
			return err
		})
		return err
	})
	return r, err
}

// connections opens a connection, asks once, and resets it, so that its port is free at once.
func connections(to netip.AddrPort, d time.Duration, _ int) (r result.Result, err error) {
	err = pinned(func() error {
		b := []byte{0}
		r, err = timed(d, func() error {
			fd, err := connect(unix.SOCK_STREAM, to)
			if err != nil {
				return err
			}
			b[0] = wantAnswers
			err = exchange(fd, b)
			return errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(fd))
		})
		return err
	})
	return r, err
}

// datagrams sends as many small ones as go, to the port behind to's. What counts is what arrives.
func datagrams(to netip.AddrPort, d time.Duration, _ int) (r result.Result, err error) {
	err = pinned(func() error {
		counter, err := connect(unix.SOCK_STREAM, to)
		if err != nil {
			return err
		}
		defer unix.Close(counter)
		if _, err := unix.Write(counter, []byte{wantCount}); err != nil {
			return err
		}
		before, err := arrived(counter)
		if err != nil {
			return err
		}
		fd, err := connect(unix.SOCK_DGRAM, netip.AddrPortFrom(to.Addr(), to.Port()+1))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		payload := make([]byte, 64)
		begun := time.Now()
		for sent := 0; sent%64 != 0 || time.Since(begun) < d; sent++ {
			if _, err := unix.Write(fd, payload); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		r.Seconds = time.Since(begun).Seconds()
		after, err := arrived(counter)
		r.Count = after - before
		return err
	})
	return r, err
}

// arrived asks how many datagrams came.
func arrived(counter int) (uint64, error) {
	if _, err := unix.Write(counter, []byte{wantCount}); err != nil {
		return 0, err
	}
	return number(counter)
}

func number(fd int) (uint64, error) {
	buf := make([]byte, 8)
	for got := 0; got < len(buf); {
		n, err := unix.Read(fd, buf[got:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		got += n
	}
	return binary.BigEndian.Uint64(buf), nil
}

// streams sends as much as goes on each of n connections.
func streams(to netip.AddrPort, d time.Duration, n int) (r result.Result, err error) {
	errs := make([]error, n)
	counts := make([]uint64, n)
	var all sync.WaitGroup
	begun := time.Now()
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = pinned(func() (err error) {
				counts[i], err = stream(to, begun.Add(d))
				return err
			})
		}()
	}
	all.Wait()
	r.Seconds = time.Since(begun).Seconds()
	for _, c := range counts {
		r.Count += c
	}
	return r, errors.Join(errs...)
}

func stream(to netip.AddrPort, end time.Time) (uint64, error) {
	fd, err := connect(unix.SOCK_STREAM, to)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{wantSink}); err != nil {
		return 0, err
	}
	buf := make([]byte, 128<<10)
	for time.Now().Before(end) {
		if _, err := unix.Write(fd, buf); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return 0, err
	}
	return number(fd)
}
