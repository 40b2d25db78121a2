package main

import (
	"encoding/binary"
	"io"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Numbers of the pcapng format (draft-ietf-opsawg-pcapng). Everything is in the machine's order, which the byte-order magic tells.
const (
	pcapSection   = 0x0a0d0d0a
	pcapInterface = 1
	pcapPacket    = 6 // an enhanced packet block

	pcapMagic    = 0x1a2b3c4d
	pcapEthernet = 1 // LINKTYPE_ETHERNET

	pcapOptionComment = 1
	pcapOptionIfName  = 2
	pcapOptionIfTime  = 9 // resolution: a power of ten
	pcapOptionAppl    = 4 // of a section: what wrote it
)

// pcapng writes packets with comments. Each packet is written whole, so that whoever reads along finds no half ones.
type pcapng struct {
	w       io.Writer
	devices map[string]uint32 // a device's place among the section's interfaces
}

// newPcapng begins a section.
func newPcapng(w io.Writer) (*pcapng, error) {
	p := &pcapng{w: w, devices: map[string]uint32{}}
	body := binary.NativeEndian.AppendUint32(nil, pcapMagic)
	body = binary.NativeEndian.AppendUint16(body, 1) // version 1.0
	body = binary.NativeEndian.AppendUint16(body, 0)
	body = binary.NativeEndian.AppendUint64(body, 1<<64-1) // of a length that is not known
	body = pcapOption(body, pcapOptionAppl, []byte("ebpfnet monitor"))
	return p, p.block(pcapSection, pcapOption(body, 0, nil))
}

// packet writes the packet of an event, under the device that it was seen on.
func (p *pcapng) packet(e *api.Event, comment string) error {
	id, ok := p.devices[e.Device]
	if !ok {
		id = uint32(len(p.devices))
		p.devices[e.Device] = id
		body := binary.NativeEndian.AppendUint16(nil, pcapEthernet)
		body = binary.NativeEndian.AppendUint16(body, 0)
		body = binary.NativeEndian.AppendUint32(body, 0) // packets are cut as they come
		body = pcapOption(body, pcapOptionIfName, []byte(e.Device))
		body = pcapOption(body, pcapOptionIfTime, []byte{9})
		if err := p.block(pcapInterface, pcapOption(body, 0, nil)); err != nil {
			return err
		}
	}
	at := uint64(e.Time.UnixNano())
	body := binary.NativeEndian.AppendUint32(nil, id)
	body = binary.NativeEndian.AppendUint32(body, uint32(at>>32))
	body = binary.NativeEndian.AppendUint32(body, uint32(at))
	body = binary.NativeEndian.AppendUint32(body, uint32(len(e.Packet)))
	body = binary.NativeEndian.AppendUint32(body, max(e.Length, uint32(len(e.Packet))))
	body = pcapPad(append(body, e.Packet...))
	body = pcapOption(body, pcapOptionComment, []byte(comment))
	return p.block(pcapPacket, pcapOption(body, 0, nil))
}

// block writes a block of a type, with its length before and behind.
func (p *pcapng) block(typ uint32, body []byte) error {
	size := uint32(len(body) + 12)
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, size), typ)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = append(b, body...)
	b = binary.NativeEndian.AppendUint32(b, size)
	_, err := p.w.Write(b)
	return err
}

// pcapOption adds an option; the one with code 0 ends them.
func pcapOption(b []byte, code uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, code)
	b = binary.NativeEndian.AppendUint16(b, uint16(len(value)))
	return pcapPad(append(b, value...))
}

// pcapPad fills up to a multiple of four bytes. What it is given begins on one.
func pcapPad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
