package parity

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// head is what docs/parity.md says before its tables; %s is Docker's version.
const head = `# Beside stock Docker

The same black-box cases on four hosts, each with a dockerd of its own: Docker %s as it is by default, the same with
` + "`--userland-proxy=false`" + `, ebpfnet over Docker's default rules, and ebpfnet under
` + "`dockerd --iptables=false --ip6tables=false --userland-proxy=false`" + `. A cell is what somebody on the network got: who answered and what address it
saw ("own port": the client's source port was kept), or the error. ` + "`make parity`" + ` runs them and fails where the columns differ and the
[written list](../tests/parity/allowed.md) does not say why ours is better. This page is its output, written by
` + "`go test ./tests/parity -update`" + `; where a run may end in several ways, all of them are named.

Names: *far* is a machine behind the router, *host* and *host1* are the host's addresses on its two uplinks, *gateway* its address on
docker0. *web* has published ports; *a* and *b* are its neighbours on docker0; *stranger* is on another network.

`

// document compares docs/parity.md with what came out, or writes it. Outcomes of stock Docker differ between its versions, so the page speaks of
// one; under another version the list alone decides.
func document(t *testing.T, docker, tables string) {
	t.Helper()
	want := fmt.Sprintf(head, docker) + tables
	if *update {
		if err := os.WriteFile(docPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "Docker "+docker+" as it is by default") {
		t.Logf("%s was written with another Docker than %s, and is not compared", docPath, docker)
		return
	}
	if string(got) != want {
		t.Errorf("%s is not what came out: run go test ./tests/parity -update, and look at what has changed:\n%s", docPath, differing(string(got), want))
	}
}

// differing is the lines of two texts that stand in one of them only: first the old text's with "-", then the new one's with "+".
func differing(old, now string) string {
	var out strings.Builder
	for _, side := range []struct{ mark, of, other string }{{"-", old, now}, {"+", now, old}} {
		there := map[string]bool{}
		for line := range strings.Lines(side.other) {
			there[strings.TrimRight(line, "\n")] = true
		}
		for line := range strings.Lines(side.of) {
			if line = strings.TrimRight(line, "\n"); !there[line] {
				fmt.Fprintf(&out, "%s %s\n", side.mark, line)
			}
		}
	}
	return out.String()
}
