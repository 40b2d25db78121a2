package step

import (
	"fmt"
	"slices"
	"strings"
)

// Tests is what became of a run of tests that did not fail.
type Tests struct {
	Passed, LeftOut int
	Reasons         []string // why tests were left out, each once, in order
}

// NoVRF is why a bridge in a VRF is left out.
const NoVRF = "a container whose bridge is in a VRF goes by the main table (5.10)"

// LeavesOut adds to a step's detail what it left out.
func LeavesOut(detail, reason string) string { return detail + ", 1" + leftOutWord + reason }

const (
	passedWord  = " passed"
	leftOutWord = " left out: "
	reasonsGap  = "; "
)

// String is the detail of a step that ran tests.
func (t Tests) String() string {
	s := fmt.Sprintf("%d%s", t.Passed, passedWord)
	if t.LeftOut > 0 {
		s += fmt.Sprintf(", %d%s%s", t.LeftOut, leftOutWord, strings.Join(t.Reasons, reasonsGap))
	}
	return s
}

// Skipped counts a test that was left out.
func (t *Tests) Skipped(reason string) {
	if reason = oneLine(reason); reason == "" {
		reason = "no reason given"
	}
	t.LeftOut++
	if !slices.Contains(t.Reasons, reason) {
		t.Reasons = append(t.Reasons, reason)
		slices.Sort(t.Reasons)
	}
}

// Reasons reads from a step's detail why tests were left out; nil where none were, or where the step ran none.
func Reasons(detail string) []string {
	if _, list, ok := strings.Cut(detail, leftOutWord); ok {
		return strings.Split(list, reasonsGap)
	}
	return nil
}
