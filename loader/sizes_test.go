package loader

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// K-6: tables keep the size that they have unless somebody asks for another; also those that an agent of another version has left, or one that
// died while it gave them another size.
func TestSizesKept(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	s := smallSettings()
	expect := func(when string, want Settings, wantFound bool, asked ...string) {
		t.Helper()
		got, found, err := DefaultSettings().Kept(p, asked...)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if found != wantFound {
			t.Errorf("%s: tables are there: %v", when, found)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	expect("without tables", DefaultSettings(), false)
	d, err := load(p, probed(t, ""), s, emptySpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	t.Cleanup(func() { _ = RemoveAll(p) })
	kept := DefaultSettings()
	kept.Flows, kept.NewFlows, kept.Endpoints, kept.Published, kept.HostSockets = s.Flows, s.NewFlows, s.Endpoints, s.Published, s.HostSockets
	expect("nothing asked", kept, true)
	part := kept
	part.NewFlows, part.HostSockets = DefaultSettings().NewFlows, DefaultSettings().HostSockets
	expect("two asked", part, true, "new-flows", "host-sockets", "metrics-addr")
	own := filepath.Dir(p.Maps)
	for _, other := range []string{p.outgrown(), filepath.Join(p.BPFFS, "v2")} {
		if err := os.Rename(own, other); err != nil {
			t.Fatal(err)
		}
		expect("in "+filepath.Base(other), kept, true)
		own = other
	}
}
