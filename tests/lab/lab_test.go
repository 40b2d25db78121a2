package lab_test

import (
	"os"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// suite is shared by the package's tests: a dockerd for each of them would cost more than they do.
var suite = lab.NewSuite()

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

// These tests hold the lab to what stock Docker does, without the product: what it answers in its default configuration, and what it does
// not answer without rules and proxy. The end-to-end tests turn the second into the first, so it must not come true by itself.

func TestStockDefault(t *testing.T) {
	h := suite.SharedHost(t, lab.Default)
	web := h.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
	other := h.Run(t, "other")
	h.Remote.Serve(t, "far", ":7000")

	for _, network := range []string{"tcp", "udp"} {
		a := h.Remote.Ask(t, network, lab.At(lab.HostIP, 8080))
		if a.Name != "web" || a.Client != a.Self.String() || a.Local != web.At(80) {
			t.Errorf("%s from outside: %+v", network, a)
		}
		a = other.NS.Ask(t, network, lab.At(lab.RemoteIP, 7000))
		if a.Name != "far" || a.Seen().Addr().String() != lab.HostIP {
			t.Errorf("%s to outside: %+v", network, a)
		}
		a = other.NS.Ask(t, network, web.At(80))
		if a.Name != "web" || a.Seen() != a.Self {
			t.Errorf("%s to a neighbour: %+v", network, a)
		}
		h.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8081))
	}
	h.NS.Ask(t, "tcp", lab.At("127.0.0.1", 8080))
	a := h.NS.Ask(t, "udp", web.At(80), lab.Unconnected())
	if a.Name != "web" {
		t.Errorf("unconnected: %+v", a)
	}
	other.NS.Ping(t, 7).Ping(t, lab.RemoteIP, []byte("hello"))
}

func TestStockNative(t *testing.T) {
	h := suite.SharedHost(t, lab.Native)
	web := h.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
	other := h.Run(t, "other")
	h.Remote.Serve(t, "far", ":7000")

	for _, network := range []string{"tcp", "udp"} {
		h.Remote.Unanswered(t, network, lab.At(lab.HostIP, 8080))
		other.NS.Unanswered(t, network, lab.At(lab.RemoteIP, 7000))
		if a := other.NS.Ask(t, network, web.At(80)); a.Name != "web" || a.Seen() != a.Self {
			t.Errorf("%s to a neighbour: %+v", network, a)
		}
	}
	// dockerd listens itself: a handshake says nothing.
	if _, err := h.Remote.TryDial("tcp", lab.At(lab.HostIP, 8080)); err != nil {
		t.Errorf("dockerd's own listener: %v", err)
	}
}

func TestBulk(t *testing.T) {
	h := suite.SharedHost(t, lab.Default)
	h.Run(t, "web", "-p", "8080:80")
	const size = 4 << 20
	c := h.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080))
	if got, err := c.Sink(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("sink: %s %v", got, err)
	}
	if got, err := c.Source(size, lab.Patience); err != nil || got != lab.BulkDigest(size) {
		t.Errorf("source: %s %v", got, err)
	}
	c.Ask(t)
}

func TestCapture(t *testing.T) {
	h := suite.SharedHost(t, lab.Default)
	web := h.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
	web.NS.Offload(t, "eth0", false)
	h.Router.Offload(t, "r0", false)
	h.Remote.Offload(t, "far", false)
	inside, outside := web.NS.Capture(t, "eth0"), h.Router.Capture(t, "r0")
	h.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080))
	h.Remote.Ask(t, "udp", lab.At(lab.HostIP, 8080))
	for name, c := range map[string]*lab.Capture{"inside": inside, "outside": outside} {
		for _, proto := range []string{"TCP", "UDP"} {
			p := c.Find(t, proto, func(p lab.Packet) bool { return p.IP != nil && p.IP.Protocol.String() == proto && !p.Sent })
			if err := p.Checksums(); err != nil {
				t.Errorf("%s: %v: %v", name, p, err)
			}
		}
	}
	p := inside.Find(t, "request", func(p lab.Packet) bool { return p.UDP != nil && !p.Sent })
	if p.IP.TTL != 62 || p.Destination().String() != web.At(80) || p.Eth.DstMAC.String() != web.MAC || !p.ToUs {
		t.Errorf("request inside: %v", p)
	}
	if p.Partial {
		t.Error("offload is on")
	}
	// A broken checksum must show.
	bad := p
	bad.Data = append([]byte(nil), p.Data...)
	bad.Data[len(bad.Data)-1] ^= 1
	if bad.Checksums() == nil {
		t.Error("a changed payload passed for right")
	}
}

func TestInject(t *testing.T) {
	h := suite.SharedHost(t, lab.Default)
	web := h.Run(t, "web", "-p", "8080:80/udp")
	c := web.NS.Capture(t, "eth0")
	w := lab.Way{
		SrcMAC: h.Router.Device(t, "r0").HardwareAddr, DstMAC: h.NS.Device(t, "up0").HardwareAddr,
		Src: lab.AddrPort(lab.RemoteIP, 4000), Dst: lab.AddrPort(lab.HostIP, 8080),
	}
	h.Router.Inject(t, "r0", w.UDPWithout(t, []byte("raw")))
	p := c.Find(t, "raw datagram", func(p lab.Packet) bool { return p.UDP != nil && string(p.Payload()) == "raw" })
	if p.UDP.Checksum != 0 || p.Source() != w.Src {
		t.Errorf("arrived: %v checksum %#x", p, p.UDP.Checksum)
	}
}

func TestNetworkModes(t *testing.T) {
	h := suite.SharedHost(t, lab.Native)
	n := h.Network(t, "net", "--subnet", "10.99.0.0/24")
	web := h.Run(t, "web", "--network", n, "--ip", "10.99.0.7")
	shared := h.Run(t, "shared", "--network", "container:"+web.Name, "--", "/bin/sleep", "1000")
	if a := h.NS.Ask(t, "tcp", "10.99.0.7:80"); a.Name != "web" {
		t.Errorf("%+v", a)
	}
	if shared.IP.IsValid() || shared.NS == nil {
		t.Errorf("shared: %+v", shared)
	}
	if h.Run(t, "none", "--network", "none").IP.IsValid() {
		t.Error("none has an address")
	}
	if dev := h.NS.Device(t, h.NetworkBridge(t, n)); dev.Index == 0 {
		t.Error("no bridge")
	}
	web.Restart(t)
	if a := h.NS.Ask(t, "tcp", "10.99.0.7:80"); a.Name != "web" {
		t.Errorf("after restart: %+v", a)
	}
	if out := web.Exec(t, "/bin/probe", "ask", "127.0.0.1:80"); out == "" {
		t.Error("ask inside the container said nothing")
	}
}
