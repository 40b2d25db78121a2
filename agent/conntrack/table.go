package conntrack

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Table is the kernel's table. Its methods are not safe for concurrent use.
type Table struct {
	socket *nl.SocketHandle
}

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	return &Table{&nl.SocketHandle{Socket: s}}, nil
}

// Close lets go of the table.
func (t *Table) Close() { t.socket.Close() }

// ErrExists says that another entry has one of the tuples.
var ErrExists = errors.New("an entry has that tuple already")

// List gives all entries: those that stand there throughout, once or, while the kernel makes its table larger, twice. A kernel that tracks
// nothing has none.
func (t *Table) List() ([]Entry, error) {
	var all []Entry
	var bad error
	err := t.request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, nil, func(msg []byte) bool {
		e, ok, err := decode(msg)
		if err != nil {
			bad = err
		} else if ok {
			all = append(all, e)
		}
		return true
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // no such subsystem: nothing is tracked
	}
	// An interrupted dump has missed nothing that stood there throughout.
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list conntrack: %w", err)
	}
	if bad != nil {
		return nil, fmt.Errorf("list conntrack: %w", bad)
	}
	return all, nil
}

// Create enters a connection, with its translation; *ErrExists* where one of its tuples stands there already.
func (t *Table) Create(e Entry) error {
	err := t.request(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, encodeNew(e), nil)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("enter %s in conntrack: %w", e.Orig, err)
	}
	return nil
}

// Update gives an entry, found by its Orig, the timeout, the status and the TCP state of e. Its translation stays.
func (t *Table) Update(e Entry) error {
	if err := t.request(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_REPLACE, encodeState(e), nil); err != nil {
		return fmt.Errorf("change %s in conntrack: %w", e.Orig, err)
	}
	return nil
}

// Loosen has the kernel overlook the sequence numbers of a TCP connection, found by its Orig, and changes nothing else about it: somebody else
// carries packets of it. An entry that is gone is an error that is fs.ErrNotExist.
func (t *Table) Loosen(orig Tuple) error {
	attrs := []*nl.RtAttr{encodeTuple(nl.CTA_TUPLE_ORIG, orig, false), encodeTCP()}
	if err := t.request(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_REPLACE, attrs, nil); err != nil {
		return fmt.Errorf("change %s in conntrack: %w", orig, err)
	}
	return nil
}

// Delete removes an entry, found by its Orig. One that is gone is no error.
func (t *Table) Delete(orig Tuple) error {
	err := t.request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, []*nl.RtAttr{encodeTuple(nl.CTA_TUPLE_ORIG, orig, false)}, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s from conntrack: %w", orig, err)
	}
	return nil
}

func (t *Table) request(operation, flags int, attrs []*nl.RtAttr, each func([]byte) bool) error {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.socket}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	for _, a := range attrs {
		r.AddData(a)
	}
	if each == nil {
		each = func([]byte) bool { return true }
	}
	return r.ExecuteIter(unix.NETLINK_NETFILTER, 0, each)
}

func (t Tuple) String() string { return fmt.Sprintf("%d %v > %v", t.Proto, t.Src, t.Dst) }
