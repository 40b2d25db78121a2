package metrics

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// counters answers with what it holds, as the maps of a datapath would.
type counters struct {
	paths     map[uint16][]bpf.Counter
	endpoints map[uint16]bpf.EndpointCounters
	drops     []bpf.Counter
	broken    error // what DropStats answers instead
}

func (c counters) PathStats(slot uint16) ([]bpf.Counter, error) { return c.paths[slot], nil }
func (c counters) EndpointStats(slot uint16) (bpf.EndpointCounters, error) {
	return c.endpoints[slot], nil
}
func (c counters) DropStats() ([]bpf.Counter, error) { return c.drops, c.broken }
func (c counters) PassStats() ([]bpf.Counter, error) { return nil, nil }
func (c counters) Now() (uint32, error)              { return 1000, nil }
func (c counters) Tallies() ([]uint64, error) {
	t := make([]uint64, bpf.DatapathTallyTALLY_MAX)
	t[bpf.DatapathTallyTALLY_FLOW_TCP] = 3
	t[bpf.DatapathTallyTALLY_NAT_TRIES] = 9
	t[bpf.DatapathTallyTALLY_TRIES_1] = 2
	t[bpf.DatapathTallyTALLY_TRIES_8] = 1
	t[bpf.DatapathTallyTALLY_NAT_CONFLICT] = 6
	t[bpf.DatapathTallyTALLY_FRAGMENT_LATER] = 4
	t[bpf.DatapathTallyTALLY_SOCKET] = 5
	return t, nil
}
func (c counters) PublishStats(slot uint16) (bpf.PublishCounters, error) {
	return bpf.PublishCounters{Connections: uint64(slot), Rx: counted(20, 200), Tx: counted(30, 300)}, nil
}
func (c counters) PeerStats(bpf.AddrKey) (bpf.PeerCounters, error) {
	return bpf.PeerCounters{Rx: counted(8, 80), Tx: counted(9, 90), Seen: 500}, nil
}
func (c counters) Programs() ([]Program, error) {
	return []Program{{Name: "from_uplink", Runs: 11, Time: 1500 * time.Millisecond}}, nil
}

type view View

func (v view) MetricsView() View { return View(v) }

func scrapeText(t *testing.T, v View) string {
	t.Helper()
	m, err := New("1.2.3", view(v), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.ObserveReconcile(30*time.Millisecond, nil)
	m.ObserveReconcile(time.Second, errors.New("no"))
	srv := httptest.NewServer(m.Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return string(body)
}

func counted(packets, bytes uint64) bpf.Counter { return bpf.Counter{Packets: packets, Bytes: bytes} }

func fullView() View {
	drops := make([]bpf.Counter, bpf.DatapathDropReasonDROP_MAX)
	drops[bpf.DatapathDropReasonDROP_ICC] = counted(7, 700)
	return View{
		Counters: counters{
			paths: map[uint16][]bpf.Counter{3: {counted(1, 10), counted(2, 20), counted(3, 30), counted(4, 40), {}}},
			endpoints: map[uint16]bpf.EndpointCounters{
				1: {Rx: counted(5, 50), Tx: counted(6, 60), RxDropped: 1, TxDropped: 2},
				2: {Rx: counted(100, 1000)},
			},
			drops: drops,
		},
		Bridges: []Bridge{{Name: "docker0", Mode: "native", Slot: 3}},
		Endpoints: []Endpoint{
			{Container: "web", Bridge: "docker0", Slot: 1},
			{Container: "web", Bridge: "docker0", Slot: 1}, // a second address
			{Container: "web", Bridge: "docker0", Slot: 2}, // a second interface
		},
		Ports:           4,
		Flows:           []FlowCount{{Proto: "tcp", State: "established", Count: 9}},
		Maps:            []MapFill{{Name: "flows4", Entries: 18, Capacity: 524288}},
		DockerConnected: true,
		Published: []Published{
			{Spec: "8080-8090:80-90/tcp", Container: "web", Proto: "tcp", Slot: 7},
			{Spec: "9000:90/udp", Container: "web", Proto: "udp"}, // no slot was left
		},
		Sweeps:         3,
		SweepTime:      500 * time.Millisecond,
		Expired:        []FlowCount{{Proto: "udp", State: "new", Count: 12}},
		Peers:          []Peer{{Name: "host-b", State: "vxlan"}},
		Etcd:           &Etcd{Connected: true, Errors: 1, Lists: 2, Renewals: 3, Rejected: 4},
		TicksPerSecond: 100,
	}
}

func TestScrape(t *testing.T) {
	broken := fullView()
	c := broken.Counters.(counters)
	c.broken = errors.New("bad file descriptor")
	broken.Counters = c

	for _, tt := range []struct {
		name string
		view View
		want []string // whole lines
		not  []string // parts of lines
	}{
		{
			name: "everything",
			view: fullView(),
			want: []string{
				`ebpfnet_forwarded_packets_total{bridge="docker0",path="local"} 1`,
				`ebpfnet_forwarded_bytes_total{bridge="docker0",path="out"} 30`,
				`ebpfnet_dropped_packets_total{reason="icc"} 7`,
				`ebpfnet_dropped_packets_total{reason="no_port"} 0`,
				`ebpfnet_kernel_packets_total{reason="rules"} 0`,
				`ebpfnet_endpoint_receive_packets_total{bridge="docker0",container="web"} 105`,
				`ebpfnet_endpoint_transmit_bytes_total{bridge="docker0",container="web"} 60`,
				`ebpfnet_endpoint_transmit_dropped_packets_total{bridge="docker0",container="web"} 2`,
				`ebpfnet_bridge_mode{bridge="docker0",mode="native"} 1`,
				`ebpfnet_endpoints{bridge="docker0"} 2`,
				`ebpfnet_published_ports 4`,
				`ebpfnet_flows{proto="tcp",state="established"} 9`,
				`ebpfnet_map_entries{map="flows4"} 18`,
				`ebpfnet_map_capacity{map="flows4"} 524288`,
				`ebpfnet_docker_connected 1`,
				`ebpfnet_published_connections_total{container="web",proto="tcp",published="8080-8090:80-90/tcp"} 7`,
				`ebpfnet_published_receive_bytes_total{container="web",proto="tcp",published="8080-8090:80-90/tcp"} 200`,
				`ebpfnet_published_transmit_packets_total{container="web",proto="tcp",published="8080-8090:80-90/tcp"} 30`,
				`ebpfnet_flows_begun_total{proto="tcp"} 3`,
				`ebpfnet_flows_expired_total{cause="new",proto="udp"} 12`,
				`ebpfnet_flow_sweeps_total 3`,
				`ebpfnet_flow_sweep_seconds_total 0.5`,
				`ebpfnet_nat_tries_bucket{le="4"} 2`,
				`ebpfnet_nat_tries_bucket{le="8"} 3`,
				`ebpfnet_nat_tries_sum 9`,
				`ebpfnet_nat_tries_count 3`,
				`ebpfnet_nat_conflicts_total 6`,
				`ebpfnet_nat_failures_total 0`,
				`ebpfnet_fragments_total{piece="later"} 4`,
				`ebpfnet_sockets_translated_total 5`,
				`ebpfnet_peer_receive_packets_total{peer="host-b"} 8`,
				`ebpfnet_peer_transmit_bytes_total{peer="host-b"} 90`,
				`ebpfnet_peer_state{peer="host-b",state="vxlan"} 1`,
				`ebpfnet_etcd_connected 1`,
				`ebpfnet_etcd_renewals_total 3`,
				`ebpfnet_program_runs_total{program="from_uplink"} 11`,
				`ebpfnet_program_run_seconds_total{program="from_uplink"} 1.5`,
				`ebpfnet_reconcile_duration_seconds_count 2`,
				`ebpfnet_reconcile_errors_total 1`,
			},
			not: []string{`reason="none"`, `reason="max"`, "9000:90"},
		},
		{
			name: "before the datapath is loaded",
			view: View{},
			want: []string{
				`ebpfnet_dropped_packets_total{reason="icc"} 0`,
				`ebpfnet_published_ports 0`,
				`ebpfnet_docker_connected 0`,
			},
			not: []string{"ebpfnet_forwarded", "ebpfnet_endpoint_", "ebpfnet_nat_", "ebpfnet_etcd_", "ebpfnet_peer_"},
		},
		{
			name: "one counter cannot be read",
			view: broken,
			want: []string{
				`ebpfnet_kernel_packets_total{reason="rules"} 0`,
				`ebpfnet_endpoint_receive_packets_total{bridge="docker0",container="web"} 105`,
			},
			not: []string{"ebpfnet_dropped_packets_total"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := scrapeText(t, tt.view)
			for _, want := range tt.want {
				if !strings.Contains(text, "\n"+want+"\n") {
					t.Errorf("no line %s", want)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(text, not) {
					t.Errorf("%s is there", not)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

func TestEveryFamilyIsShownAndNoOther(t *testing.T) {
	text := scrapeText(t, fullView())
	known := make(map[string]string)
	for _, f := range Families() {
		known[f.Name] = f.Type
		if !strings.Contains(text, "# TYPE "+f.Name+" "+f.Type+"\n") {
			t.Errorf("%s %s is not shown", f.Type, f.Name)
		}
		if !strings.Contains(text, "# HELP "+f.Name+" "+f.Help+"\n") {
			t.Errorf("the help of %s is not shown", f.Name)
		}
	}
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(line, "# TYPE ebpfnet_")
		if !ok {
			continue
		}
		name = "ebpfnet_" + strings.Fields(name)[0]
		if _, ok := known[name]; !ok {
			t.Errorf("%s is shown, and not in Families", name)
		}
	}
}

func TestPromtoolFindsNothing(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: install Debian's package prometheus")
		}
		t.Skip("promtool is missing: install Debian's package prometheus")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrapeText(t, fullView()))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// A label has as many values as there are containers, ports that somebody published, hosts, or enumerators: never one for each packet's address or
// flow.
func TestLabelsAreBounded(t *testing.T) {
	bounded := []string{"bridge", "path", "reason", "container", "map", "proto", "state", "cause", "mode", "published", "piece", "peer", "program",
		"version", "goversion"}
	for _, f := range Families() {
		for _, l := range f.Labels {
			if !slices.Contains(bounded, l) {
				t.Errorf("%s: is the number of values of label %s bounded?", f.Name, l)
			}
		}
	}
}
