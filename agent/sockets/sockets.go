// Package sockets ends UDP sockets of the host by the kernel's socket diagnosis, as `ss --kill` does. Their owners are told so, with
// ECONNABORTED, and open others.
//
// The invariant: a socket is ended by its cookie alone, so never another one that has its addresses by then.
package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sizes and places in include/uapi/linux/inet_diag.h: struct inet_diag_req_v2 is family, protocol, extensions, a byte of padding, a mask of
// states, and struct inet_diag_sockid; struct inet_diag_msg is family, state, timer, retransmissions, and the same.
const (
	requestSize = 56
	idOffset    = 8 // of inet_diag_sockid in a request
	idOffsetMsg = 4 // and in an answer
	idSize      = 48
	cookieAt    = 40 // in inet_diag_sockid
)

// EndUDP ends the UDP sockets of this network namespace that have one of the cookies (SO_COOKIE). Out: how many there were. Kernels without
// CONFIG_INET_DIAG_DESTROY give unix.EOPNOTSUPP.
func EndUDP(cookies map[uint64]bool) (int, error) {
	if len(cookies) == 0 {
		return 0, nil
	}
	ended := 0
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := list(family)
		if err != nil {
			return ended, err
		}
		for _, id := range found {
			if !cookies[cookie(id)] {
				continue
			}
			err := destroy(family, id)
			switch {
			case errors.Is(err, unix.ENOENT): // it has been closed since
			case err != nil:
				return ended, fmt.Errorf("end a socket of the host: %w", err)
			default:
				ended++
			}
		}
	}
	return ended, nil
}

func cookie(id []byte) uint64 {
	return uint64(binary.NativeEndian.Uint32(id[cookieAt:])) | uint64(binary.NativeEndian.Uint32(id[cookieAt+4:]))<<32
}

// list gives struct inet_diag_sockid of every UDP socket of a family.
func list(family uint8) ([][]byte, error) {
	r := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	r.AddRawData(request(family, nil))
	for {
		msgs, err := r.Execute(unix.NETLINK_INET_DIAG, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the host's sockets: %w", err)
		}
		var ids [][]byte
		for _, m := range msgs {
			if len(m) >= idOffsetMsg+idSize {
				ids = append(ids, m[idOffsetMsg:idOffsetMsg+idSize])
			}
		}
		return ids, nil
	}
}

func destroy(family uint8, id []byte) error {
	r := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	r.AddRawData(request(family, id))
	_, err := r.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// request is struct inet_diag_req_v2, of sockets in every state.
func request(family uint8, id []byte) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(b[4:], 0xffffffff)
	copy(b[idOffset:], id)
	return b
}
