package trace

import (
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// Every path and every reason that is somebody's will has its sentence; what is wrong with the packet itself has none.
func TestPolicyIsExplained(t *testing.T) {
	names, err := bpf.LoadNames()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names.Paths {
		for _, published := range []bool{false, true} {
			if allowed(bpf.FlowPath(i), published) == "" {
				t.Errorf("nothing is said of path %s", name)
			}
		}
	}
	faults := "none truncated ip_header l4_header source_route martian_source no_uplink no_address no_port flow_table fragment icmp_error rewrite " +
		"fragment_order congestion"
	for i, name := range names.Drops {
		fault := strings.Contains(" "+faults+" ", " "+name+" ")
		if said := refused(bpf.DropReason(i)); (said == "") != fault {
			t.Errorf("of reason %s is said %q", name, said)
		}
	}
}
