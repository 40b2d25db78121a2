package main

import (
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

func TestCutKind(t *testing.T) {
	plain := api.Tuple{Source: "172.17.0.2", Destination: "172.17.0.3"}
	dialled := api.Tuple{Source: "172.17.0.2", Destination: "192.0.2.1"}
	for _, tt := range []struct {
		name string
		flow api.Flow
		want string
	}{
		{"in", api.Flow{Path: "in"}, "in"},
		{"out", api.Flow{Path: "out"}, "out"},
		{"another host's container", api.Flow{Path: "overlay"}, "to other hosts"},
		{"by a published port", api.Flow{Path: "local", Original: dialled, Translated: plain}, "between containers"},
		{"on the bridge", api.Flow{Path: "local", Original: plain, Translated: plain}, ""},
		{"the host's", api.Flow{Path: "host"}, ""},
	} {
		if got := cutKind(tt.flow); got != tt.want {
			t.Errorf("%s: cutKind() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCutSaid(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stops stopping
		want  string
	}{
		{"nothing", stopping{}, ""},
		{"containers at rest", stopping{bridges: []string{"docker0"}, containers: 2},
			"0 flows of 2 containers on docker0, whose traffic no rules of Docker's carry"},
		{"all kinds", stopping{bridges: []string{"a", "b"}, containers: 3, flows: map[string]int{"out": 4, "in": 1, "between containers": 2, "to other hosts": 3}},
			"10 flows (1 in, 4 out, 2 between containers, 3 to other hosts) of 3 containers on a, b, whose traffic no rules of Docker's carry"},
	} {
		if got := tt.stops.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
