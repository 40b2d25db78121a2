package maps

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// G-6: rules are put in force as a whole: the set that packets are judged by is not touched, and one word changes it.
func TestSyncPolicy(t *testing.T) {
	m, o := newMaps(t, nil)
	mustSync(t, m, someState())
	before, err := m.Config()
	if err != nil {
		t.Fatal(err)
	}
	want := someState()
	want.Policy.Profiles[bpf.ProfileKey{Prefixlen: 96, Profile: 2, Proto: 6, Port: bpf.Port(81)}] = bpf.Profile{Allow: 1, Rule: 3}
	want.Policy.Idents[addrKey("172.17.0.3")] = bpf.Ident{Class: 3, Egress: 1}
	mustSync(t, m, want)
	after, err := m.Config()
	if err != nil {
		t.Fatal(err)
	}
	if after.PolicySet == before.PolicySet || after.Epoch == before.Epoch {
		t.Errorf("set %d, epoch %d; before it was set %d, epoch %d", after.PolicySet, after.Epoch, before.PolicySet, before.Epoch)
	}
	// The old set is as it was, until it is written again.
	old, err := New(o).readSet(before.PolicySet)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(somePolicy(), old); diff != "" {
		t.Errorf("the set that was in force (-want +got)\n%s", diff)
	}
	// Only the difference is written: the set that comes next was in force two changes ago.
	want = someState()
	want.Policy.Idents[addrKey("172.17.0.3")] = bpf.Ident{Class: 3, Egress: 1}
	got := mustSync(t, m, want)
	if diff := cmp.Diff([]TableChanges{{bpf.DatapathMapEndpoints4, 0, 1, 0}}, got.Tables); diff != "" {
		t.Errorf("changes (-want +got)\n%s", diff)
	}
	if again := mustSync(t, m, want); again.Any() {
		t.Errorf("nothing has changed, and was written: %s", again)
	}
	if again, err := New(o).Sync(want); err != nil || again.Any() {
		t.Errorf("an agent that comes back wrote %s, %v", again, err)
	}
}

func (m *Maps) readSet(set uint32) (Policy, error) {
	if err := m.load(); err != nil {
		return Policy{}, err
	}
	return m.policy.inSet(set % bpf.PolicySets), nil
}

// Where the rules do not fit, those that are in force stay, and who comes is closed if they would have selected him.
func TestSyncPolicyFull(t *testing.T) {
	m, o := newMaps(t, map[string]uint32{bpf.DatapathMapPairs: 2})
	first := someState()
	delete(first.Endpoints, addrKey("172.17.0.3"))
	mustSync(t, m, first)
	want := someState()
	for from := uint32(10); from < 20; from++ {
		want.Policy.Pairs[bpf.PairKey{From: from, To: 1}] = bpf.Pair{Ingress: 2}
	}
	want.Policy.Idents[addrKey("172.17.0.2")] = bpf.Ident{Class: 1, Egress: 5, Ingress: 5}
	want.Policy.Idents[addrKey("172.17.0.3")] = bpf.Ident{Class: 3, Egress: 1}
	_, err := m.Sync(want)
	var full *FullError
	if !errors.As(err, &full) || full.Map != bpf.DatapathMapPairs {
		t.Fatalf("got %v", err)
	}
	got, err := New(o).Load()
	if err != nil {
		t.Fatal(err)
	}
	stays := somePolicy()
	stays.Idents[addrKey("172.17.0.3")] = bpf.Ident{Egress: bpf.DatapathProfileIdPROFILE_CLOSED}
	if diff := cmp.Diff(stays, got.Policy); diff != "" {
		t.Errorf("rules in force (-want +got)\n%s", diff)
	}
	if _, ok := got.Endpoints[addrKey("172.17.0.3")]; !ok {
		t.Error("the rest was not written")
	}
	mustSync(t, m, someState())
}
