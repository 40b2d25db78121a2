package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentIsCurrent(t *testing.T) {
	have, err := os.ReadFile(filepath.Join("..", "..", "docs", "kernels.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(document(), string(have)); diff != "" {
		t.Errorf("docs/kernels.md is old: run make generate (-want +have):\n%s", diff)
	}
}

func TestKernels(t *testing.T) {
	for _, k := range kernels() {
		if k.hook != "tcx" && k.hook != "clsact" {
			t.Errorf("%s: hook %q", k.name, k.hook)
		}
		if slices.Contains(k.lacks, "tcx") != (k.hook == "clsact") {
			t.Errorf("%s: hook %s, and lacks %v", k.name, k.hook, k.lacks)
		}
		if !slices.IsSorted(k.lacks) {
			t.Errorf("%s: %v is not in order", k.name, k.lacks)
		}
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(nil)
	if err != nil || len(all) != len(kernels()) {
		t.Errorf("none named: %d kernels, %v", len(all), err)
	}
	two, err := choose([]string{"6.12", "5.10"})
	if err != nil || len(two) != 2 || two[0].name != "6.12" || two[1].name != "5.10" {
		t.Errorf("two named: %v, %v", two, err)
	}
	if _, err := choose([]string{"6.1", "2.6"}); err == nil {
		t.Error("2.6 is taken")
	}
}

func TestHas(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		want          bool
	}{
		{"6.1", "6.1.192-2", true},
		{"6.1", "6.12.117-1", false},
		{"6.12", "6.1.192-2", false},
		{newest, "7.2.13-1", true},
	} {
		if got := (kernel{name: tt.name}).has(tt.version); got != tt.want {
			t.Errorf("%s has %s: %v", tt.name, tt.version, got)
		}
	}
}
