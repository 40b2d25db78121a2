package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/activity"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/bpf"
	"github.com/ebpfnet/ebpfnet/maps"
)

// What goes on is told of what is there: nothing attached, and then a container with a flow to the outside.
func TestActivity(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	act, err := l.client.Activity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(act)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("lists that are missing: %s, %v", text, err)
	}
	if _, err := l.client.Attach(t.Context(), api.AttachRequest{Bridges: []string{"docker0"}, Mode: "native"}); err != nil {
		t.Fatal(err)
	}
	id := l.agent.view.Load().result.Endpoints[0].ID
	l.mu.Lock()
	l.flows = []maps.FlowRow{{
		Key:   bpf.FlowKey{Saddr: 1, Daddr: 2, Proto: 6},
		Flow:  bpf.Flow{Saddr: 1, Daddr: 2, SrcId: id, Path: bpf.DatapathFlowPathPATH_OUT, Packets: 3, Bytes: 300},
		Reply: &bpf.Flow{DstId: id, Path: bpf.DatapathFlowPathPATH_OUT, Packets: 2, Bytes: 200, Flags: bpf.DatapathFlowFlagFLOW_REPLY},
	}}
	l.mu.Unlock()
	var next api.Activity
	// The walk before this one serves for a moment.
	w := &l.agent.watch
	l.await("a new walk", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Since(w.walked) > max(walkAge, walkShare*w.took)
	})
	if next, err = l.client.Activity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next.At <= act.At || next.Watch != act.Watch {
		t.Errorf("at %f after %f, watch %d after %d", next.At, act.At, next.Watch, act.Watch)
	}
	want := []api.EndpointActivity{{ID: id, Name: "web", Container: "web", Bridge: "docker0", Address: "172.17.0.2", Flows: 1, Counters: api.EndpointCounters{ReceivePackets: 7}}}
	if diff := cmp.Diff(want, next.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got)\n%s", diff)
	}
	edges := []api.Edge{{From: api.EndOutside, To: id, Packets: 2, Bytes: 200}, {From: id, To: api.EndOutside, Packets: 3, Bytes: 300}}
	if diff := cmp.Diff(edges, next.Edges); diff != "" {
		t.Errorf("edges (-want +got)\n%s", diff)
	}
	// Once nobody looks any more, nothing is walked and nothing remembered; who looks then begins anew.
	w.end()
	if w.tracker != nil {
		t.Error("it is remembered though nobody looks")
	}
	walks := l.walks
	if next, err = l.client.Activity(t.Context()); err != nil || next.Watch == act.Watch || l.walks != walks+1 {
		t.Errorf("the next watch: %d after %d, %d walks after %d, %v", next.Watch, act.Watch, l.walks, walks, err)
	}
	// Several who look at once share a walk.
	for range 5 {
		if _, err := l.client.Activity(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if l.walks != walks+1 {
		t.Errorf("%d walks for six who asked at once", l.walks-walks)
	}
	if api.EndHost != activity.Host || api.EndOutside != activity.Outside {
		t.Error("the ends differ")
	}
}
