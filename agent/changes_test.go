package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/policy"
)

// Each change is one line with keys and values; what did not change has none, and a flood of changes is counted.
func TestLogChanges(t *testing.T) {
	ep := func(id uint32, name, addr string) policy.EndpointView {
		e := policy.EndpointView{Name: name, Bridge: "docker0", Veth: "veth" + name}
		e.ID = id
		e.Addrs = []netip.Addr{netip.MustParseAddr(addr)}
		return e
	}
	port := func(n uint16, target, addr string) policy.PortView {
		p := policy.PortView{Spec: policy.PublishSpec{HostPort: n, HostEnd: n, Port: 80, End: 80, Proto: policy.ProtoTCP}, Source: "user", Target: target, Active: addr != ""}
		if addr != "" {
			p.Address = netip.MustParseAddr(addr)
		}
		return p
	}
	var many policy.Result
	for i := range uint16(100) {
		many.Ports = append(many.Ports, port(1000+i, "web", "172.17.0.2"))
	}
	for _, tt := range []struct {
		name          string
		before, after policy.Result
		want          []string // message, and what makes it this one's
	}{
		{name: "nothing", before: many, after: many},
		{
			name:   "endpoints",
			before: policy.Result{Endpoints: []policy.EndpointView{ep(1, "web", "172.17.0.2"), ep(2, "old", "172.17.0.3")}},
			after:  policy.Result{Endpoints: []policy.EndpointView{ep(1, "shop", "172.17.0.2"), ep(3, "new", "172.17.0.4")}},
			want:   []string{"endpoint renamed name=shop", "endpoint added name=new", "endpoint gone name=old"},
		},
		{
			name:   "ports",
			before: policy.Result{Ports: []policy.PortView{port(80, "web", "172.17.0.2"), port(81, "web", "172.17.0.2"), port(82, "db", "172.17.0.3"), port(90, "x", "")}},
			after:  policy.Result{Ports: []policy.PortView{port(80, "web", "172.17.0.2"), port(82, "db", ""), port(83, "web", "172.17.0.2"), port(90, "x", "")}},
			want:   []string{"port changed port=82:80", "port published port=83:80", "port unpublished port=81:80"},
		},
		{
			name:   "bridges, uplinks, problems",
			before: policy.Result{Bridges: []policy.BridgeView{{Name: "br0", Attached: true}}, Uplinks: []policy.UplinkView{{Name: "eth0", Attached: true}}, Problems: []string{"a", "b"}},
			after:  policy.Result{Bridges: []policy.BridgeView{{Name: "br1", Attached: true}}, Uplinks: []policy.UplinkView{{Name: "eth1", Attached: true}}, Problems: []string{"b", "c"}},
			want: []string{"bridge attached bridge=br1", "bridge detached bridge=br0", "uplink attached uplink=eth1", "uplink left uplink=eth0",
				"problem what=c", "problem is gone what=a"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, line := range loggedLines(t, tt.before, tt.after) {
				for _, key := range []string{"name", "port", "bridge", "uplink", "what"} {
					if v, ok := line[key].(string); ok {
						if key == "port" {
							v, _, _ = strings.Cut(v, "/")
						}
						got = append(got, fmt.Sprintf("%s %s=%s", line["msg"], key, v))
						break
					}
				}
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	lines := loggedLines(t, policy.Result{}, many)
	if len(lines) != most+1 || lines[most]["msg"] != "more published ports changed" || lines[most]["count"] != float64(100-most) {
		t.Errorf("%d lines for a hundred ports, the last %v", len(lines), lines[len(lines)-1])
	}
}

// loggedLines are what a change is told by, in JSON: one object a line.
func loggedLines(t *testing.T, before, after policy.Result) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	a := &Agent{log: slog.New(slog.NewJSONHandler(&out, nil))}
	a.logChanges(before, after)
	var all []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, m)
	}
	return all
}
