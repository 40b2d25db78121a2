package bpf

import (
	"slices"
	"testing"
)

func TestNamesFollowTheEnums(t *testing.T) {
	n, err := LoadNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		words []string
		max   int
		value int
		want  string
	}{
		{"drops", n.Drops, int(DatapathDropReasonDROP_MAX), int(DatapathDropReasonDROP_MARTIAN_SOURCE), "martian_source"},
		{"first drop", n.Drops, int(DatapathDropReasonDROP_MAX), 0, "none"},
		{"passes", n.Passes, int(DatapathPassReasonPASS_MAX), int(DatapathPassReasonPASS_RULES), "rules"},
		{"paths", n.Paths, int(DatapathFlowPathPATH_MAX), int(DatapathFlowPathPATH_OVERLAY), "overlay"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.words) != tt.max {
				t.Errorf("%d words for %d values: %q", len(tt.words), tt.max, tt.words)
			}
			if tt.words[tt.value] != tt.want {
				t.Errorf("value %d is %q, want %q", tt.value, tt.words[tt.value], tt.want)
			}
			if slices.Contains(tt.words, "") || slices.Contains(tt.words, "max") {
				t.Errorf("an empty word, or the count among the words: %q", tt.words)
			}
		})
	}
}
