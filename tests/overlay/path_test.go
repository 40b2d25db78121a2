package overlay

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// J-1, overlay D6: containers of two hosts, and the hosts, reach each other with their own addresses, and the world behind masquerade.
func TestVXLAN(t *testing.T) {
	eachWorld(t, func(t *testing.T, w lab.World) {
		p := newPair(t, w, vxlan)
		directions(t, p, [2]string{p.network(0), p.network(1)})
		checksums(t, p)
		obeysIPsec(t, p)
		p.leaveForAWhile(t)
	})
}

// obeysIPsec: what leaves in VXLAN is the kernel's to wrap while the host has IPsec policies. Here it is one that lets nothing leave, since that needs no
// key and no other end.
func obeysIPsec(t *testing.T, p *pair) {
	t.Helper()
	const policy = "dir out proto udp dport 8472 src 0.0.0.0/0 dst 0.0.0.0/0"
	client := p.c[0].NS.Dial(t, "udp", p.c[1].At(80))
	client.Ask(t)
	p.hosts[0].NS.IP(t, "xfrm policy add "+policy+" action block")
	lab.Eventually(t, lab.Patience, func() error {
		if _, err := client.TryAsk(); err == nil {
			return errors.New("a packet leaves in VXLAN past an IPsec policy")
		}
		return nil
	})
	p.hosts[0].NS.IP(t, "xfrm policy delete "+policy)
	lab.Eventually(t, lab.Patience, func() error {
		_, err := client.TryAsk()
		return err
	})
}

// J-1, overlay D6: as TestVXLAN, where the network names no backend: packets travel as all that a UDP datagram holds.
func TestDatagrams(t *testing.T) {
	eachWorld(t, func(t *testing.T, w lab.World) {
		p := newPair(t, w, udp)
		if mtu := p.hosts[0].Subnet(t)["FLANNEL_MTU"]; mtu != "1472" { // overlay D4
			t.Errorf("MTU is %s, want 1472", mtu)
		}
		golden(t, "udp.txt", p.exchange(t, 21, datagrams))
		golden(t, "udp-record.txt", p.record(t))
		wire := p.segment.Router.Capture(t, "h1")
		directions(t, p, [2]string{p.network(0), p.network(1)})
		if bare := wire.All(inNetwork); len(bare) > 0 {
			t.Errorf("%d packets are on the wire as they are: %s", len(bare), bare[0])
		}
		// Wherever the packets were finished, they arrive whole.
		const size = 4 << 20
		for i := range p.hosts {
			client := p.c[i].NS.Dial(t, "tcp", p.c[1-i].At(80))
			if got, err := client.Sink(size, settled); err != nil || got != lab.BulkDigest(size) {
				t.Errorf("overlay D5: %q %v", got, err)
			}
			p.c[i].NS.Ask(t, "udp", p.c[1-i].At(80), lab.Size(4000)) // J-4
		}
		p.tooBig(t, 1472)
		p.forgedDatagrams(t)
	})
}

// overlay D2: hosts on one segment need no tunnel where the network says host-gw.
func TestHostGateway(t *testing.T) {
	eachWorld(t, func(t *testing.T, w lab.World) {
		p := newPair(t, w, hostGW)
		if mtu := p.hosts[0].Subnet(t)["FLANNEL_MTU"]; mtu != "1500" {
			t.Errorf("MTU is %s, want 1500", mtu)
		}
		golden(t, "host-gw.txt", p.exchange(t, 21, pings))
		golden(t, "host-gw-record.txt", p.record(t))
		wire := p.segment.Router.Capture(t, "h1")
		directions(t, p, [2]string{p.hosts[0].IP, p.hosts[1].IP})
		if n := len(outer(wire)); n != 0 {
			t.Errorf("%d packets are wrapped", n)
		}
		p.leave(t)
	})
}

// directions asks in every direction between two hosts, which have these addresses for the containers, and their containers.
func directions(t *testing.T, p *pair, addresses [2]string) {
	p.segment.Remote.Serve(t, "world", lab.RemoteIP+":7000")
	for i := range p.hosts {
		j := 1 - i
		own, host := p.c[i].IP, netip.MustParseAddr(p.network(i))
		for _, proto := range []string{"tcp", "udp"} {
			if seen := p.c[i].NS.Ask(t, proto, p.c[j].At(80)).Seen().Addr(); seen != own { // J-1
				t.Errorf("%s from container %s is seen as %s", proto, own, seen)
			}
			// overlay D6
			seen := p.hosts[i].NS.Ask(t, proto, p.c[j].At(80)).Seen().Addr()
			if seen != host && seen.String() != p.hosts[i].IP {
				t.Errorf("%s from host %s is seen as %s", proto, p.hosts[i].IP, seen)
			}
			if seen := p.c[i].NS.Ask(t, proto, lab.RemoteIP+":7000").Seen().Addr(); seen.String() != p.hosts[i].IP {
				t.Errorf("%s to the world is seen as %s, want masqueraded as %s", proto, seen, p.hosts[i].IP)
			}
		}
		// The port that the other host publishes, by that host's own address, is dialled as from anywhere else.
		p.c[i].NS.Ask(t, "tcp", lab.At(p.hosts[j].IP, 8080))
		p.segment.Remote.Ask(t, "tcp", lab.At(p.hosts[i].IP, 8080))
		p.c[i].NS.Ping(t, 7+i).Ping(t, p.c[j].IP.String(), []byte("across"))
		p.c[i].NS.Ping(t, 17+i).Ping(t, addresses[j], []byte("to the host"))
	}
}
