package metrics

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReference(t *testing.T) {
	const file = "../docs/metrics.md"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Reference(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not what names.go says; write it anew with -update (-want +got)\n%s", diff)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write docs/metrics.md")
	flag.Parse()
	os.Exit(m.Run())
}
