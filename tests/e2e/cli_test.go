package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Scripts rely on these names in `status -o json`.
func TestStatusShape(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		var status map[string]any
		s.JSON(t, &status, "status")
		has := func(v any, where string, names ...string) {
			t.Helper()
			m, ok := v.(map[string]any)
			for _, name := range names {
				if _, there := m[name]; !ok || !there {
					t.Errorf("%s has no %q: %v", where, name, v)
				}
			}
		}
		first := func(v any) any {
			if l, ok := v.([]any); ok && len(l) > 0 {
				return l[0]
			}
			return nil
		}
		has(status, "status", "instance", "version", "mode", "agent", "bridges", "uplinks", "kernel", "problems")
		has(status["agent"], "agent", "running", "pid", "metrics_url", "log")
		has(first(status["bridges"]), "a bridge", "name", "mode", "endpoints", "subnets")
		has(first(status["uplinks"]), "an uplink", "name", "hook", "address")
		if p, ok := status["problems"].([]any); !ok || len(p) > 0 {
			t.Errorf("problems: %v", status["problems"])
		}
	})
}

// Flows are listed with what they were and what they became, and counted; filters choose among them.
func TestFlowList(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web, c := s.Run(t, "web", "-p", "8080:80"), s.Run(t, "c")
		s.Remote.Serve(t, "far", ":7000")
		out := c.NS.Dial(t, "udp", lab.At(lab.RemoteIP, 7000), lab.From(":5016"))
		in := s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080), lab.From(":4016"))
		for range 3 {
			out.Ask(t)
			in.Ask(t)
		}
		find := func(flows []api.Flow, original api.Tuple) *api.Flow {
			i := slices.IndexFunc(flows, func(f api.Flow) bool { return f.Original == original })
			if i < 0 {
				return nil
			}
			return &flows[i]
		}
		outward := api.Tuple{Source: c.IP.String(), SourcePort: 5016, Destination: lab.RemoteIP, DestinationPort: 7000}
		inward := api.Tuple{Source: lab.RemoteIP, SourcePort: 4016, Destination: lab.HostIP, DestinationPort: 8080}
		f := find(s.Flows(t), outward)
		if f == nil {
			t.Fatalf("no flow %+v", outward)
		}
		eq(t, "out, translated", f.Translated, api.Tuple{Source: lab.HostIP, SourcePort: 5016, Destination: lab.RemoteIP, DestinationPort: 7000})
		eq(t, "out, container", f.Container, c.Name)
		eq(t, "out, path", f.Path, "out")
		eq(t, "out, packets", f.Packets, 6)
		eq(t, "out, packets back", f.Reply.Packets, 3)
		if f = find(s.Flows(t), inward); f == nil {
			t.Fatalf("no flow %+v", inward)
		}
		eq(t, "in, translated", f.Translated, api.Tuple{Source: lab.RemoteIP, SourcePort: 4016, Destination: web.IP.String(), DestinationPort: 80})
		eq(t, "in, container", f.Container, web.Name)
		eq(t, "in, path", f.Path, "in")

		for _, filter := range []struct {
			args    []string
			in, out bool
		}{
			{[]string{"--container", web.Name}, true, false}, {[]string{"--container", c.Name}, false, true},
			{[]string{"--proto", "tcp"}, true, false}, {[]string{"--proto", "udp"}, false, true},
		} {
			flows := s.Flows(t, filter.args...)
			eq(t, strings.Join(filter.args, " ")+": in", find(flows, inward) != nil, filter.in)
			eq(t, strings.Join(filter.args, " ")+": out", find(flows, outward) != nil, filter.out)
		}
		if table := s.Ebpfnet(t, "nat", "list"); !strings.Contains(table, c.IP.String()+":5016") {
			t.Errorf("nat list does not show the flow:\n%s", table)
		}
		e := s.Endpoint(t, c.IP)
		if e.Counters.TransmitPackets < 3 || e.Counters.ReceivePackets < 3 || e.Counters.TransmitBytes == 0 {
			t.Errorf("counters of the container: %+v", e.Counters)
		}
	})
}

// The commands that need no agent work without one, and doctor says what the tables cost.
func TestOtherCommands(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		if v := s.Ebpfnet(t, "version"); strings.TrimSpace(v) == "" {
			t.Error("version says nothing")
		}
		for _, shell := range []string{"bash", "zsh", "fish"} {
			if c := s.Ebpfnet(t, "completion", shell); !strings.Contains(c, "ebpfnet") {
				t.Errorf("completion %s: %q", shell, c)
			}
		}
		var findings []api.Finding
		s.JSON(t, &findings, "doctor")
		for _, f := range findings {
			if f.Level == "error" {
				t.Errorf("doctor on a sound host: %+v", f)
			}
		}
		if text := s.Ebpfnet(t, "doctor"); !strings.Contains(text, "MiB") && !strings.Contains(text, "KiB") {
			t.Errorf("doctor does not say what the tables take:\n%s", text)
		}
		eq(t, "agent without attach", s.Status(t).Agent.Running, false)
	})
}
