package agent

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
	tables "github.com/ebpfnet/ebpfnet/maps"
)

// Connections are taken over with a bridge that comes, and handed over with one that goes, over Docker's rules; rules that change behind a
// bridge that stays move nothing. Where the host's own rules decide, its connections are the kernel's all the time.
func TestChangedHands(t *testing.T) {
	docker, native := bpf.Bridge{Flags: bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES}, bpf.Bridge{}
	offload := bpf.Bridge{Flags: bpf.DatapathBridgeFlagBRIDGE_DOCKER_RULES | bpf.DatapathBridgeFlagBRIDGE_OFFLOAD}
	state := func(bridges map[uint32]bpf.Bridge) tables.State { return tables.State{Bridges: bridges} }
	coming, going := changedHands(
		state(map[uint32]bpf.Bridge{1: docker, 2: docker, 3: native, 4: docker, 5: native, 8: docker, 9: offload, 10: offload, 11: offload}),
		state(map[uint32]bpf.Bridge{1: docker, 3: docker, 4: native, 6: docker, 7: native, 8: offload, 9: docker, 10: offload, 12: offload}),
	)
	if diff := cmp.Diff([]map[uint32]bool{{6: true, 9: true}, {2: true, 8: true}}, []map[uint32]bool{coming, going}); diff != "" {
		t.Error(diff)
	}
}

// Somebody who wants the datapath off gets it off, even where the kernel takes nothing over.
func TestHandOverFails(t *testing.T) {
	refuse := func() (Conntrack, error) { return nil, errors.New("no table") }
	a := &Agent{dp: &fakeDatapath{}, log: slog.New(slog.DiscardHandler), host: Host{OpenConntrack: refuse}}
	h := a.tryHandOver(map[uint32]bool{1: true})
	if h != nil {
		t.Error("something is handed over")
	}
	h.finish()
}
