package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// What somebody else's reader finds in a file: devices, times to the nanosecond, lengths, bytes. Comments are for tshark to find (tests/e2e).
func TestPcapng(t *testing.T) {
	var file bytes.Buffer
	w, err := newPcapng(&file)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 123456789).UTC()
	events := []api.Event{
		{Time: at, Device: "veth1", Length: 1514, Packet: []byte{1, 2, 3, 4, 5}},
		{Time: at.Add(time.Second), Device: "up0", Length: 4, Packet: []byte{6, 7, 8, 9}},
		{Time: at.Add(2 * time.Second), Device: "veth1", Length: 1, Packet: []byte{10}},
	}
	for i := range events {
		if err := w.packet(&events[i], "why not"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range events {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		device, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		got := api.Event{Time: info.Timestamp.UTC(), Device: device.Name, Length: uint32(info.Length), Packet: data}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("packet (-want +got):\n%s", diff)
		}
	}
}
