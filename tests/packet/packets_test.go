package packet

import (
	"slices"
	"testing"

	state "github.com/ebpfnet/ebpfnet/maps"
)

// packetCase is one packet in a world. The flow table begins empty.
type packetCase struct {
	name   string
	change func(*state.State) // of the usual state
	before []sent             // packets that go first; what comes of them is another case's
	hook   hook
	in     frame
	want   outcome
	flows  []string // afterwards, in any order
}

// sent is a packet on a hook.
type sent struct {
	hook  hook
	frame frame
}

func (d *datapath) runCases(t *testing.T, cases []packetCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d.reset(t)
			if c.change != nil {
				d.change(t, c.change)
			}
			for _, p := range c.before {
				d.send(t, p.hook, p.frame)
			}
			d.expect(t, c.hook, c.in, c.want)
			d.expectFlows(t, c.flows...)
		})
	}
}

func sorted(lines []string) []string {
	lines = append([]string{}, lines...)
	slices.Sort(lines)
	return lines
}

// TestPackets loads the datapath once for all tests that need no other.
func TestPackets(t *testing.T) {
	d := load(t, options{wrap: wrap})
	for _, group := range []struct {
		name string
		run  func(*testing.T, *datapath)
	}{
		{"out", testOut},
		{"overlay", testOverlay},
		{"vxlan", testVXLAN},
		{"vxlan, out", testVXLANOut},
		{"forged", testForged},
		{"datagrams", testDatagrams},
		{"nobody", testNobody},
		{"udplite", testUDPLite},
		{"zero sum", testZeroSum},
		{"malformed", testMalformed},
		{"not ipv4", testNotIPv4},
		{"padding", testPadding},
		{"malformed known", testMalformedKnown},
		{"other icmp", testOtherICMP},
		{"published", testPublished},
		{"hairpin", testHairpin},
		{"both ways", testBothWays},
		{"every port", testEveryPort},
		{"local", testLocal},
		{"host", testHost},
		{"stranger", testStranger},
		{"closed", testClosed},
		{"bypass", testBypass},
		{"rules", testRules},
		{"gateway modes", testGatewayModes},
		{"no way", testNoWay},
		{"host source", testHostSource},
		{"same port", testSamePort},
		{"same id", testSameID},
		{"unasked", testUnasked},
		{"host same", testHostSame},
		{"host sockets", testHostSockets},
		{"published port", testPublishedPort},
		{"host talks", testHostTalks},
		{"dummy listener", testDummyListener},
		{"reserved port", testReservedPort},
		{"endpoint counters", testEndpointCounters},
		{"peer counters", testPeerCounters},
		{"tallies", testTallies},
		{"events, or none", testEventNobody},
		{"events", testEventTold},
		{"events, the ring full", testEventFull},
		{"parallel", testParallel},
		{"parallel life", testParallelLife},
		{"parallel ports", testParallelPorts},
		{"evicted", testEvicted},
		{"evicted and taken", testEvictedAndTaken},
		{"evicted changed", testEvictedChanged},
		{"flood", testFlood},
		{"promotion", testPromotion},
		{"reopen", testReopen},
		{"phantom", testPhantom},
		{"moved", testMoved},
		{"endpoint changed", testEndpointChanged},
		{"leaving", testLeaving},
		{"leaks", testLeaks},
		{"last hop", testLastHop},
		{"direct", testDirect},
		{"one way", testOneWay},
		{"one socket", testOneSocket},
		{"offload", testOffload},
		{"offload, what is left", testOffloadLeft},
		{"offload, what begins", testOffloadBegins},
		{"offload, the users rules", testOffloadRules},
		{"sizes", testSizes},
		{"marks", testMarks},
		{"errors in", testErrorsIn},
		{"errors port", testErrorsPort},
		{"errors whole", testErrorsWhole},
		{"errors out", testErrorsOut},
		{"errors other", testErrorsOther},
		{"pieces", testPieces},
		{"pieces same id", testPiecesSameID},
		{"lost pieces", testLostPieces},
		{"held pieces", testHeldPieces},
		{"record route", testRecordRoute},
		{"drops counted", testDropsCounted},
		{"random", testRandom},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, d) })
	}
}
