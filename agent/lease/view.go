package lease

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// State is how far a member is.
type State string

// The states of a member.
const (
	Connecting State = "connecting" // etcd has not answered yet; what is known is from before
	Waiting    State = "waiting"    // the network is not configured yet
	Seeking    State = "seeking"    // no subnet is free
	Joined     State = "joined"     // the subnet is held
	Lost       State = "lost"       // another host holds the subnet
)

// View is what a member knows at one moment. It is not changed once it is published.
type View struct {
	State     State
	Connected bool   // etcd answered last time
	Problem   string // one line; empty where all is well
	Notes     []string

	Network  overlay.Network // zero until it is known
	Subnet   netip.Prefix    // this host's; invalid until it has one
	Public   netip.Addr      // where this host is reached
	MAC      net.HardwareAddr
	Peers    []overlay.Peer // by subnet
	Rejected []overlay.Rejected

	Revision int64 // of etcd's store, that Peers are from
	Restart  bool  // the configuration has changed since; it is taken up by the next start
}

// Known tells whether there is anything to put to work.
func (v *View) Known() bool { return v.Network.Prefix.IsValid() && v.Subnet.IsValid() }

// alike tells whether both say the same but for the revision, so that nobody has anything to do.
func (v *View) alike(w *View) bool {
	return v.State == w.State && v.Connected == w.Connected && v.Problem == w.Problem && slices.Equal(v.Notes, w.Notes) && v.Network == w.Network &&
		v.Subnet == w.Subnet && v.Public == w.Public && bytes.Equal(v.MAC, w.MAC) && v.Restart == w.Restart &&
		same(v.Peers, w.Peers) && same(v.Rejected, w.Rejected)
}

// same tells whether two lists are one. They are made anew with every change.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Counts are what a member has counted since it was made.
type Counts struct {
	Errors   uint64 // requests that etcd did not answer, and watches that broke
	Lists    uint64 // times that everything was read
	Renewals uint64
	Rejected uint64 // records that made no peer, each time one came
}
