package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// What looks into one host's traffic, and the rules that decide about it, take another host's containers for what they are (J-1, G-6, L-1, L-3).
func TestSeenAcross(t *testing.T) {
	eachWorld(t, func(t *testing.T, w lab.World) {
		p := newPair(t, w, vxlan, "--metrics-addr", "127.0.0.1:9979")
		a, b := p.hosts[0], p.hosts[1]
		server := b.Host.Run(t, "server", "--label", project, "--label", "role=server")
		near := b.Host.Run(t, "near", "--label", project)
		other := a.Host.Run(t, "other", "--label", project)
		b.Await(t, server)
		b.Await(t, near)
		a.Await(t, other)
		p.flowsAndCounters(t, server)
		p.traced(t, server)
		p.ruledByReceiver(t, server, near, other)
		p.ruledBySender(t, server, other)
	})
}

// project puts containers into a namespace of rules.
const project = "com.docker.compose.project=seen"

// flowsAndCounters looks at a connection on both hosts.
func (p *pair) flowsAndCounters(t *testing.T, server *lab.Container) {
	t.Helper()
	counted := func() (n [4]float64) {
		a, b := p.hosts[0].Scrape(t), p.hosts[1].Scrape(t)
		return [4]float64{
			a.Sum("ebpfnet_peer_transmit_packets_total"), b.Sum("ebpfnet_peer_receive_packets_total"),
			b.Sum("ebpfnet_peer_transmit_packets_total"), a.Sum("ebpfnet_peer_receive_packets_total"),
		}
	}
	before := counted()
	client := p.c[0].NS.Dial(t, "tcp", server.At(80))
	const exchanges = 10
	for range exchanges {
		client.Ask(t)
	}
	lab.Eventually(t, lab.Patience, func() error {
		now := counted()
		for i, what := range []string{"sent", "received there", "answered", "received here"} {
			if more := now[i] - before[i]; more < exchanges {
				return fmt.Errorf("%g packets are counted as %s, want %d or more", more, what, exchanges)
			}
		}
		return nil
	})
	for i, h := range p.hosts {
		container := []string{p.c[0].Name, server.Name}[i]
		lab.Eventually(t, lab.Patience, func() error {
			flows := h.Flows(t, "--container", container, "--proto", "tcp")
			for _, f := range flows {
				to := f.Original.Destination == server.IP.String() && f.Original.DestinationPort == 80
				if to && f.Original.Source == p.c[0].IP.String() && f.Original == f.Translated && f.Path == "overlay" && f.Container == container && f.Packets >= exchanges {
					return nil
				}
			}
			return fmt.Errorf("%s does not show the flow: %+v", h.IP, flows)
		})
	}
}

// traced asks where a packet to the other host's container would go.
func (p *pair) traced(t *testing.T, server *lab.Container) {
	t.Helper()
	var got api.Trace
	p.hosts[0].JSON(t, &got, "trace", "--from", p.c[0].Name, "--to", server.At(80))
	if got.Verdict != "forward" || got.Path != "overlay" || got.Peer != p.subnets[1].String() || got.NextHop != p.hosts[1].IP || got.Translated != got.Original {
		t.Errorf("trace says %+v", got)
	}
	said := p.hosts[0].Instance.Run(t, "trace", "--from", p.c[0].Name, "--to", server.At(80))
	if want := "is on the host " + p.hosts[1].IP + ", which has " + p.subnets[1].String() + ": vxlan"; !strings.Contains(said, want) {
		t.Errorf("%q is not in\n%s", want, said)
	}
	got = api.Trace{}
	nobody := p.subnets[1].Addr().Prev() // of the subnet below, which no host has
	p.hosts[0].JSON(t, &got, "trace", "--from", p.c[0].Name, "--to", lab.At(nobody.String(), 80))
	if nobody != p.subnets[0].Addr() && (got.Verdict != "drop" || got.Reason != "no_peer") {
		t.Errorf("trace to nobody's %s says %+v", nobody, got)
	}
}

// rules puts rules in force on a host until the returned function is called.
func rules(t *testing.T, h *lab.Member, name, spec string) (lift func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	text := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: seen}\nspec: " + spec + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Instance.Run(t, "policy", "apply", "-f", file)
	return func() { h.Instance.Run(t, "policy", "delete", "seen/"+name) }
}

// told tells of an event that it is about a packet from one container to another's port.
func told(from, to *lab.Container, port uint16) func(api.Event) bool {
	return func(e api.Event) bool {
		return e.Original.Source == from.IP.String() && e.Original.Destination == to.IP.String() && e.Original.DestinationPort == port
	}
}

// ruledByReceiver has the host of the container that is dialled refuse by address and by label, and tell so there and nowhere else.
func (p *pair) ruledByReceiver(t *testing.T, server, near, other *lab.Container) {
	t.Helper()
	here, there := p.hosts[0].Monitor(t, "--drops"), p.hosts[1].Monitor(t, "--drops")
	lift := rules(t, p.hosts[1], "by-address", fmt.Sprintf(
		`{podSelector: {matchLabels: {role: server}}, ingress: [{from: [{ipBlock: {cidr: %s/32}}], ports: [{port: 80}]}]}`, p.c[0].IP))
	if seen := p.c[0].NS.Ask(t, "tcp", server.At(80)).Seen().Addr(); seen != p.c[0].IP {
		t.Errorf("who may is seen as %s", seen)
	}
	before := p.hosts[1].Scrape(t).Dropped("policy_ingress")
	for _, network := range []string{"tcp", "udp"} {
		other.NS.Unanswered(t, network, server.At(80))
		p.c[0].NS.Unanswered(t, network, server.At(81))
	}
	p.hosts[0].NS.Unanswered(t, "tcp", server.At(80)) // the other host itself, which is not its container
	near.NS.Unanswered(t, "tcp", server.At(80))
	e := there.Find(t, "a drop of the other host's container", told(other, server, 80))
	if e.Reason != "policy_ingress" || e.Rule != "seen/by-address" || e.To != server.Name {
		t.Errorf("monitor says %+v", e)
	}
	there.Find(t, "a drop at another port", told(p.c[0], server, 81))
	if events := here.All(told(other, server, 80)); len(events) > 0 {
		t.Errorf("the sender's host tells of a drop that is not its own: %+v", events)
	}
	if dropped := p.hosts[1].Scrape(t).Dropped("policy_ingress") - before; dropped < 6 {
		t.Errorf("%g packets are counted, want 6 or more", dropped)
	}
	lift()

	// A label says something of this host's own containers alone.
	lift = rules(t, p.hosts[1], "by-label", `{podSelector: {matchLabels: {role: server}}, ingress: [{from: [{podSelector: {}}]}]}`)
	near.NS.Ask(t, "tcp", server.At(80))
	other.NS.Unanswered(t, "tcp", server.At(80))
	lift()
	other.NS.Ask(t, "tcp", server.At(80))
}

// ruledBySender has the sender's host refuse, and tell so; the other one never sees the packet.
func (p *pair) ruledBySender(t *testing.T, server, other *lab.Container) {
	t.Helper()
	here, inside := p.hosts[0].Monitor(t, "--drops"), server.NS.Capture(t, "eth0")
	lift := rules(t, p.hosts[0], "out", fmt.Sprintf(
		`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: %s}}], ports: [{port: 80}]}]}`, p.subnets[1]))
	other.NS.Ask(t, "tcp", server.At(80))
	other.NS.Unanswered(t, "tcp", server.At(81))
	e := here.Find(t, "a drop at the sender", told(other, server, 81))
	if e.Reason != "policy_egress" || e.From != other.Name {
		t.Errorf("monitor says %+v", e)
	}
	inside.None(t, "a packet that was refused", func(q lab.Packet) bool { return q.TCP != nil && q.TCP.DstPort == 81 })
	lift()
	other.NS.Ask(t, "tcp", server.At(81))
}
