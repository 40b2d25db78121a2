package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// Pinger sends ICMP echo requests with an id of the test's choice, and hears every ICMP message that reaches its namespace.
type Pinger struct {
	where string
	id    int
	seq   int
	conn  *icmp.PacketConn
}

// Heard is an ICMP message that a pinger got.
type Heard struct {
	From netip.Addr
	Type ipv4.ICMPType
	Code int
	Echo *icmp.Echo // nil where it is none
	Body []byte     // after the type, the code and the checksum
}

// Ping opens a pinger in the namespace.
func (n *Netns) Ping(t testing.TB, id int) *Pinger {
	t.Helper()
	p := &Pinger{where: n.Name, id: id}
	err := n.Do(func() (err error) {
		p.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		t.Fatalf("%s: ping: %v", n.Name, err)
	}
	t.Cleanup(func() { p.conn.Close() })
	return p
}

// TTL sets the time to live of what the pinger sends from now on.
func (p *Pinger) TTL(t testing.TB, ttl int) {
	t.Helper()
	if err := p.conn.IPv4PacketConn().SetTTL(ttl); err != nil {
		t.Fatal(err)
	}
}

// ID is the pinger's own.
func (p *Pinger) ID() int { return p.id }

// TrySend sends one request and returns its sequence number.
func (p *Pinger) TrySend(to string, payload []byte) (int, error) {
	p.seq++
	msg := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: p.id, Seq: p.seq, Data: payload}}
	b, err := msg.Marshal(nil)
	if err != nil {
		return p.seq, err
	}
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return p.seq, fmt.Errorf("%s: ping %s: %w", p.where, to, err)
	}
	return p.seq, nil
}

// Send is TrySend for what must succeed.
func (p *Pinger) Send(t testing.TB, to string, payload []byte) int {
	t.Helper()
	seq, err := p.TrySend(to, payload)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// Hear waits for the next message that is not an echo request.
func (p *Pinger) Hear(timeout time.Duration) (Heard, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return Heard{}, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return Heard{}, fmt.Errorf("%s: %w", p.where, err)
		}
		if n < 8 || buf[0] == byte(ipv4.ICMPTypeEcho) {
			continue
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		h := Heard{From: addr.Unmap(), Type: ipv4.ICMPType(buf[0]), Code: int(buf[1]), Body: append([]byte(nil), buf[4:n]...)}
		if h.Type == ipv4.ICMPTypeEchoReply {
			h.Echo = &icmp.Echo{ID: int(binary.BigEndian.Uint16(buf[4:])), Seq: int(binary.BigEndian.Uint16(buf[6:])), Data: h.Body[4:]}
		}
		return h, nil
	}
}

// Ping sends a request and checks that what is heard next is its answer: from the address that was asked, with the pinger's own id, the
// sequence number and the payload.
func (p *Pinger) Ping(t testing.TB, to string, payload []byte) {
	t.Helper()
	p.Expect(t, to, p.Send(t, to, payload), payload)
}

// Expect checks that what is heard next answers a request that Send sent.
func (p *Pinger) Expect(t testing.TB, to string, seq int, payload []byte) {
	t.Helper()
	h, err := p.Hear(Patience)
	if err != nil {
		t.Fatalf("ping %s: %v", to, err)
	}
	if err := h.answers(to, p.id, seq, payload); err != nil {
		t.Fatalf("%s: ping %s: %v", p.where, to, err)
	}
}

// Silent fails the test where the pinger hears anything more.
func (p *Pinger) Silent(t testing.TB) {
	t.Helper()
	if h, err := p.Hear(Doubt); err == nil {
		t.Fatalf("%s: heard type %v from %s: %x", p.where, h.Type, h.From, h.Body)
	}
}

// Quotes tells whether an ICMP error is about an echo request of that id and sequence number.
func (h Heard) Quotes(id, seq int) bool {
	if len(h.Body) < 4+20 {
		return false
	}
	inner := h.Body[4:]
	at := int(inner[0]&15) * 4
	return len(inner) >= at+8 && inner[9] == 1 && int(binary.BigEndian.Uint16(inner[at+4:])) == id && int(binary.BigEndian.Uint16(inner[at+6:])) == seq
}

func (h Heard) answers(from string, id, seq int, payload []byte) error {
	switch {
	case h.Echo == nil:
		return fmt.Errorf("heard type %v code %d from %s", h.Type, h.Code, h.From)
	case h.From.String() != from:
		return fmt.Errorf("answered by %s", h.From)
	case h.Echo.ID != id || h.Echo.Seq != seq:
		return fmt.Errorf("id %d seq %d, want id %d seq %d", h.Echo.ID, h.Echo.Seq, id, seq)
	case string(h.Echo.Data) != string(payload):
		return errors.New("the payload has changed")
	}
	return nil
}
