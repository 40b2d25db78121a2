package overlay

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// golden compares text with what a file holds: what flanneld puts on the wire and into etcd too.
func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// record is what etcd holds of the first host, with names for what is another in each run. flannel passes over what it does not know, which
// is the node's id.
func (p *pair) record(t *testing.T) string {
	t.Helper()
	node := regexp.MustCompile(`"node":"[0-9a-f]+"`)
	return node.ReplaceAllString(p.segment.Record(t, p.subnets[0].String()), `"node":"ID"`) + "\n"
}

// exchange is an echo request and its answer on the wire, of those packets that keep keeps.
func (p *pair) exchange(t *testing.T, id int, keep func(lab.Packet) bool) string {
	t.Helper()
	wire := p.segment.Router.Capture(t, "h1")
	p.c[0].NS.Ping(t, id).Ping(t, p.c[1].IP.String(), []byte("golden"))
	var text [2]string
	for _, o := range wire.All(keep) {
		from := 0
		if o.Source().Addr().String() == p.hosts[1].IP || o.Source().Addr() == p.c[1].IP {
			from = 1
		}
		if text[from] != "" {
			t.Errorf("another packet from %s: %s", o.Source(), o)
		}
		text[from] = p.describe(o)
	}
	return text[0] + text[1]
}

// describe writes what matters of a packet between the hosts, with names for what is another in each run.
func (p *pair) describe(o lab.Packet) string {
	names := strings.NewReplacer(p.c[0].IP.String(), "container0", p.c[1].IP.String(), "container1")
	head := fmt.Sprintf("%s > %s ttl %d flags %q", o.IP.SrcIP, o.IP.DstIP, o.IP.TTL, o.IP.Flags.String())
	if o.UDP == nil {
		return names.Replace(fmt.Sprintf("%s, protocol %d\n", head, o.IP.Protocol))
	}
	head = fmt.Sprintf("outer %s port %d checksum %#x\n", head, o.UDP.DstPort, o.UDP.Checksum)
	first, tunnel := layers.LayerTypeVXLAN, "vxlan"
	if o.UDP.DstPort == 8285 {
		first, tunnel = layers.LayerTypeIPv4, "datagram"
		head = strings.Replace(head, "port", fmt.Sprintf("from port %d to port", o.UDP.SrcPort), 1)
	}
	d := gopacket.NewPacket(o.UDP.Payload, first, gopacket.Default)
	ip, _ := d.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if ip == nil {
		return fmt.Sprintf("not %s: %s\n", tunnel, o)
	}
	inner := fmt.Sprintf("%s > %s ttl %d\n", ip.SrcIP, ip.DstIP, ip.TTL)
	if tunnel == "datagram" {
		return names.Replace(head + "  inner " + inner)
	}
	v, _ := d.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	eth, _ := d.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	return names.Replace(fmt.Sprintf("%s  vxlan flags %#02x vni %d\n  inner %s > %s, %s", head, v.Contents[0], v.VNI, eth.SrcMAC, eth.DstMAC, inner))
}

// pings keeps echo messages that are on the wire as they are.
func pings(q lab.Packet) bool { return q.ICMP != nil }

// inVXLAN keeps what carries a packet of the network in VXLAN, datagrams what carries one as its only payload.
func inVXLAN(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 8472 }

func datagrams(q lab.Packet) bool { return q.UDP != nil && q.UDP.DstPort == 8285 }

// inNetwork tells whether a packet is on the wire with the address of a container, or of a host among them.
func inNetwork(q lab.Packet) bool {
	network := netip.MustParsePrefix("10.200.0.0/16")
	return q.IP != nil && (network.Contains(q.Source().Addr()) || network.Contains(q.Destination().Addr()))
}
