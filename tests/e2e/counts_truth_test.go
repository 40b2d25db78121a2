package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// seen is what the kernels at both ends counted: each packet where it was sent, and each byte at the container's device. A receiver counts a
// large TCP segment as one, whose sender counts what the network makes of it.
type seen struct {
	sent, received       float64 // packets, by the container and by its peer
	sentBytes, recvBytes float64 // at the container's device, link-layer header included
}

// sentBy is how many packets the kernel of a namespace has sent: TCP segments, UDP datagrams and ICMP messages.
func sentBy(t *testing.T, ns *lab.Netns) float64 {
	t.Helper()
	n := snmp(t, ns)
	return n["Tcp:OutSegs"] + n["Tcp:RetransSegs"] + n["Udp:OutDatagrams"] + n["Icmp:OutMsgs"]
}

// snmp reads /proc/net/snmp of a namespace.
func snmp(t *testing.T, ns *lab.Netns) map[string]float64 {
	t.Helper()
	n := map[string]float64{}
	lines := strings.Split(strings.TrimSpace(procNet(t, ns, "snmp")), "\n")
	for i := 0; i+1 < len(lines); i += 2 { // names, and below them their values
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k := 1; k < len(names) && k < len(values); k++ {
			n[names[0]+names[k]], _ = strconv.ParseFloat(values[k], 64)
		}
	}
	return n
}

// atDevice is how many bytes a container's device has sent and received. Nobody asks for link-layer addresses there: see still.
func atDevice(t *testing.T, c *lab.Container) (sent, received float64) {
	t.Helper()
	for line := range strings.Lines(procNet(t, c.NS, "dev")) {
		name, rest, ok := strings.Cut(line, ":")
		if fields := strings.Fields(rest); ok && strings.TrimSpace(name) == "eth0" && len(fields) > 8 {
			received, _ = strconv.ParseFloat(fields[0], 64)
			sent, _ = strconv.ParseFloat(fields[8], 64)
		}
	}
	return sent, received
}

func procNet(t *testing.T, ns *lab.Netns, file string) string {
	t.Helper()
	var text []byte
	err := ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// between says what the metrics count while fn runs, and what a container and its peer have sent meanwhile. Metrics and kernels are read
// while nothing moves.
func (s site) between(t *testing.T, c *lab.Container, peer *lab.Netns, fn func()) (got tally, is seen) {
	t.Helper()
	look := func() (m lab.Metrics, k seen) {
		kernels := func() (k seen) {
			k.sent, k.received = sentBy(t, c.NS), sentBy(t, peer)
			k.sentBytes, k.recvBytes = atDevice(t, c)
			return k
		}
		lab.Eventually(t, time.Minute, func() error {
			k = kernels()
			m = s.settled(t, c.NS, peer)
			if now := kernels(); now != k {
				return fmt.Errorf("packets still flow: %v, then %v", k, now)
			}
			return nil
		})
		return m, k
	}
	before, first := look()
	fn()
	after, last := look()
	return moved(before, after), seen{last.sent - first.sent, last.received - first.received, last.sentBytes - first.sentBytes, last.recvBytes - first.recvBytes}
}

// settled waits until the connections in these namespaces are over, so that nobody acknowledges or repeats anything any more, and returns
// the metrics.
func (s site) settled(t *testing.T, all ...*lab.Netns) lab.Metrics {
	t.Helper()
	for _, ns := range all {
		lab.Eventually(t, time.Minute, func() error {
			out, err := ns.TryRun("ss", "-Htan", "exclude", "listening", "exclude", "time-wait")
			if err == nil && out != "" {
				err = fmt.Errorf("%s: connections are open:\n%s", ns.Name, out)
			}
			return err
		})
	}
	return s.Settled(t)
}

// back is the same as the peer sees it.
func (s seen) back() seen { return seen{s.received, s.sent, s.recvBytes, s.sentBytes} }

// all is what went either way.
func (s seen) all(path string) tally {
	return forwarded(path, s.sent+s.received, s.sentBytes+s.recvBytes)
}

// tally is what the metrics have counted: by family and labels, without what counts nothing that a test sends.
type tally map[string]float64

// counted says what the metrics count while fn runs.
func (s site) counted(t *testing.T, fn func()) tally {
	t.Helper()
	before := s.settled(t, s.Remote)
	fn()
	return moved(before, s.settled(t, s.Remote))
}

func moved(before, after lab.Metrics) tally {
	got := tally{}
	for sample, v := range after {
		name, _, _ := strings.Cut(sample, "{")
		if d := v - before[sample]; d != 0 && strings.HasPrefix(name, "ebpfnet_") && deterministic(sample, name) {
			got[strings.TrimPrefix(sample, "ebpfnet_")] = d
		}
	}
	return got
}

// deterministic leaves out what others make the datapath count: frames that are not IPv4, the host's own packets, the agent's own work.
func deterministic(sample, name string) bool {
	for _, part := range []string{`reason="not_ipv4"`, `reason="not_ours"`, `reason="multicast"`} {
		if strings.Contains(sample, part) {
			return false
		}
	}
	return name == "ebpfnet_nat_tries_sum" || name == "ebpfnet_nat_tries_count" || strings.HasSuffix(name, "_total") &&
		!strings.HasPrefix(name, "ebpfnet_flows_expired") && !strings.HasPrefix(name, "ebpfnet_flow_sweep") && !strings.HasPrefix(name, "ebpfnet_reconcile")
}

// expect compares everything that was counted, and nothing else may be.
func (got tally) expect(t *testing.T, parts ...tally) {
	t.Helper()
	want := tally{}
	for _, p := range parts {
		for k, v := range p {
			if v != 0 {
				want[k] += v
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted (-sent +metrics):\n%s", diff)
	}
}

// forwarded, endpoint and the like are what the metrics have to count.
func forwarded(path string, packets, bytes float64) tally {
	labels := fmt.Sprintf(`{bridge="docker0",path=%q}`, path)
	return tally{"forwarded_packets_total" + labels: packets, "forwarded_bytes_total" + labels: bytes}
}

func endpoint(c *lab.Container, received, recvBytes, sent, sentBytes float64) tally {
	labels := fmt.Sprintf(`{bridge="docker0",container=%q}`, c.Name)
	return tally{
		"endpoint_receive_packets_total" + labels: received, "endpoint_receive_bytes_total" + labels: recvBytes,
		"endpoint_transmit_packets_total" + labels: sent, "endpoint_transmit_bytes_total" + labels: sentBytes,
	}
}

func droppedAt(c *lab.Container, received, sent float64) tally {
	labels := fmt.Sprintf(`{bridge="docker0",container=%q}`, c.Name)
	return tally{"endpoint_receive_dropped_packets_total" + labels: received, "endpoint_transmit_dropped_packets_total" + labels: sent}
}

func (s seen) of(c *lab.Container) tally {
	return endpoint(c, s.received, s.recvBytes, s.sent, s.sentBytes)
}

func published(c *lab.Container, spec, proto string, connections float64, s seen) tally {
	labels := fmt.Sprintf(`{container=%q,proto=%q,published=%q}`, c.Name, proto, spec)
	return tally{
		"published_connections_total" + labels:      connections,
		"published_receive_packets_total" + labels:  s.received,
		"published_receive_bytes_total" + labels:    s.recvBytes,
		"published_transmit_packets_total" + labels: s.sent,
		"published_transmit_bytes_total" + labels:   s.sentBytes,
	}
}

func flows(proto string, n float64) tally {
	return tally{fmt.Sprintf(`flows_begun_total{proto=%q}`, proto): n}
}

// kept are flows that left with their own port: one try each.
func kept(n float64) tally { return tally{"nat_tries_count": n, "nat_tries_sum": n} }

// still enters all link-layer addresses for good and ends IPv6, so that nothing but what a test sends is counted at the devices.
func (s site) still(t *testing.T, all ...*lab.Container) {
	t.Helper()
	s.NS.SetSysctl(t, "net/ipv6/conf/all/disable_ipv6", "1")
	gateway := s.NS.Device(t, lab.Bridge).HardwareAddr.String()
	for _, c := range all {
		s.NS.IP(t, fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", c.IP, c.MAC, lab.Bridge))
		c.NS.IP(t, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", lab.GatewayIP, gateway))
		for _, other := range all {
			if other != c {
				c.NS.IP(t, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", other.IP, other.MAC))
			}
		}
	}
}

// measured is what iperf3 tells of a run.
type measured struct {
	packets  float64 // of UDP, that the client has sent
	received float64 // bytes that the server has read
}

// iperf measures once between two namespaces.
func iperf(t *testing.T, server, client *lab.Netns, to string, port int, flags ...string) measured {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var said bytes.Buffer
	listen := server.Command(ctx, "iperf3", "--server", "--one-off", "--port", strconv.Itoa(port))
	listen.Stdout, listen.Stderr = &said, &said
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- listen.Wait() }()
	lab.Eventually(t, time.Minute, func() error {
		out, err := server.TryRun("ss", "-Hltn", fmt.Sprintf("sport = :%d", port))
		if err == nil && out == "" {
			err = fmt.Errorf("iperf3 does not listen on port %d", port)
		}
		return err
	})
	out, err := client.Command(ctx, "iperf3", append([]string{"--json", "--client", to, "--port", strconv.Itoa(port)}, flags...)...).Output()
	if err != nil {
		t.Fatalf("iperf3: %v: %s", err, out)
	}
	if err := <-ended; err != nil {
		t.Fatalf("iperf3 server: %v: %s", err, said.String())
	}
	var report struct {
		End struct {
			Sum      struct{ Packets float64 }
			Received struct{ Bytes float64 } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("iperf3: %v in %s", err, out)
	}
	return measured{report.End.Sum.Packets, report.End.Received.Bytes}
}

// pings has ping(8) send so many requests of 98 bytes, all of which must be answered.
func pings(t *testing.T, from *lab.Netns, to string, n int) (bytes float64) {
	t.Helper()
	out := from.Run(t, "ping", "-n", "-c", strconv.Itoa(n), "-i", "0.02", "-s", "56", "-W", "10", to)
	if !strings.Contains(out, fmt.Sprintf("%d packets transmitted, %d received, 0%% packet loss", n, n)) {
		t.Fatalf("ping %s: %s", to, out)
	}
	return float64(n) * 98
}
