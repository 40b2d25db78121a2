package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Capture holds all that a device has seen since it began: what comes in before the device's own programs, what leaves after them.
type Capture struct {
	where string
	fd    int

	mu      sync.Mutex
	packets []Packet
	stop    chan struct{}
	done    chan struct{}
}

// Capture watches a device until the test ends.
func (n *Netns) Capture(t testing.TB, dev string) *Capture {
	t.Helper()
	c := &Capture{where: n.Name + " " + dev, stop: make(chan struct{}), done: make(chan struct{})}
	err := n.Do(func() (err error) {
		c.fd, err = packetSocket(dev, unix.ETH_P_ALL)
		return err
	})
	if err != nil {
		t.Fatalf("capture %s: %v", c.where, err)
	}
	go c.read()
	t.Cleanup(func() {
		close(c.stop)
		<-c.done
		unix.Close(c.fd)
		if t.Failed() {
			t.Logf("capture of %s:\n%s", c.where, c)
		}
	})
	return c
}

// packetSocket opens a packet socket on one device of the thread's namespace. Protocol 0 takes in nothing.
func packetSocket(dev string, protocol uint16) (int, error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, err
	}
	// Without a protocol the socket takes nothing in until it is bound to its device.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: link.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

func (c *Capture) read() {
	defer close(c.done)
	buf, oob := make([]byte, 128<<10), make([]byte, 256)
	for {
		n, oobn, _, from, err := unix.Recvmsg(c.fd, buf, oob, 0)
		if err != nil {
			select {
			case <-c.stop:
				return
			default:
			}
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
				continue
			}
			return
		}
		p := Packet{At: time.Now(), Data: append([]byte(nil), buf[:n]...)}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			p.Sent, p.ToUs = ll.Pkttype == unix.PACKET_OUTGOING, ll.Pkttype == unix.PACKET_HOST
		}
		p.auxiliary(oob[:oobn])
		p = decode(p)
		c.mu.Lock()
		c.packets = append(c.packets, p)
		c.mu.Unlock()
	}
}

// auxiliary reads struct tpacket_auxdata (linux/if_packet.h).
func (p *Packet) auxiliary(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		status := binary.NativeEndian.Uint32(m.Data)
		p.Partial = status&unix.TP_STATUS_CSUMNOTREADY != 0
		if status&unix.TP_STATUS_VLAN_VALID != 0 {
			p.VLAN = binary.NativeEndian.Uint16(m.Data[16:]) & 0xfff
		}
	}
}

// All is what has been seen that match accepts; a nil match accepts everything. What happened before the call has been read by then.
func (c *Capture) All(match func(Packet) bool) []Packet {
	c.settle()
	return c.soFar(match)
}

// soFar is what has been read.
func (c *Capture) soFar(match func(Packet) bool) []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Packet
	for _, p := range c.packets {
		if match == nil || match(p) {
			found = append(found, p)
		}
	}
	return found
}

// Find waits for a packet that match accepts, and returns the first.
func (c *Capture) Find(t testing.TB, what string, match func(Packet) bool) Packet {
	t.Helper()
	var found []Packet
	Eventually(t, Patience, func() error {
		if found = c.soFar(match); len(found) == 0 {
			return fmt.Errorf("%s saw no %s", c.where, what)
		}
		return nil
	})
	return found[0]
}

// None fails the test where a packet that match accepts has been seen.
func (c *Capture) None(t testing.TB, what string, match func(Packet) bool) {
	t.Helper()
	if found := c.All(match); len(found) > 0 {
		t.Fatalf("%s saw %s:\n%s", c.where, what, list(found))
	}
}

// settle waits until the socket has nothing more to read.
func (c *Capture) settle() {
	_ = try(time.Second, func() error {
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 30); err == nil && n == 0 {
			return nil
		}
		return errors.New("busy")
	})
}

func (c *Capture) String() string { return list(c.soFar(nil)) }

// list shows the last packets, one a line.
func list(packets []Packet) string {
	const most = 60
	var b strings.Builder
	if skip := len(packets) - most; skip > 0 {
		fmt.Fprintf(&b, "  (%d earlier ones)\n", skip)
		packets = packets[skip:]
	}
	for _, p := range packets {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	return b.String()
}
