package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

func TestReadPeers(t *testing.T) {
	got, err := readPeers("# all hosts\n10.200.1.0/24 192.0.2.11\n\n  10.200.2.0/24\t192.0.2.12 0e:eb:c0:00:02:0c # flannel\n")
	want := []api.PeerRequest{
		{Subnet: "10.200.1.0/24", Via: "192.0.2.11"}, {Subnet: "10.200.2.0/24", Via: "192.0.2.12", MAC: "0e:eb:c0:00:02:0c"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{"10.200.1.0/24", "10.200.1.0/24 via 192.0.2.11 dev eth0"} {
		if got, err := readPeers(text); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}
