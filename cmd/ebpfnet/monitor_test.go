package main

import (
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

func TestEventLine(t *testing.T) {
	at := time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.Local)
	before := api.Tuple{Source: "172.17.0.2", SourcePort: 40000, Destination: "192.0.2.10", DestinationPort: 80}
	after := before
	after.Source = "198.51.100.1"
	for _, c := range []struct {
		name string
		e    api.Event
		want string
	}{
		{"translated", api.Event{Time: at, Program: "from_container", Device: "veth1", Verdict: "forward", Path: "out", From: "web", Proto: "tcp", EtherType: 0x800,
			Original: before, Translated: after, Length: 74},
			"03:04:05.678901 forward                  from_container veth1        tcp 172.17.0.2:40000>192.0.2.10:80 as 198.51.100.1:40000>192.0.2.10:80 (web to -) path out 74 bytes"},
		{"dropped", api.Event{Time: at, Program: "from_uplink", Device: "up0", Verdict: "drop", Reason: "direct", To: "web", Proto: "tcp", EtherType: 0x800,
			Original: before, Translated: before, Length: 74, Rule: "default/web"},
			"03:04:05.678901 drop direct              from_uplink    up0          tcp 172.17.0.2:40000>192.0.2.10:80 (- to web) rule \"default/web\" 74 bytes"},
		{"arp", api.Event{Time: at, Program: "to_bridge", Device: "docker0", Verdict: "pass", Reason: "not_ipv4", EtherType: 0x806, Length: 42},
			"03:04:05.678901 pass not_ipv4            to_bridge      docker0      arp 42 bytes"},
		{"a name that moves the cursor", api.Event{Time: at, Program: "to_bridge", Device: "docker0", Verdict: "pass", Reason: "host", From: "a\x1b[2J", Proto: "47", Length: 42},
			"03:04:05.678901 pass host                to_bridge      docker0      47 > (a?[2J to -) 42 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := eventLine(&c.e); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
