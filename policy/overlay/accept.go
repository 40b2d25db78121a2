package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Entry is a key below PREFIX/subnets and its value, as etcd has them. It is made by NewEntry.
type Entry struct {
	Key     string `json:"key"` // the last element
	Value   []byte `json:"value"`
	Created int64  `json:"created"` // revision at which the key was made; older ones win

	subnet netip.Prefix
	record Record
	broken error
}

// NewEntry reads a key and its value. What is wrong with them is told by Subnet and Record.
func NewEntry(key string, value []byte, created int64) Entry {
	e := Entry{Key: key, Value: value, Created: created}
	if e.subnet, e.broken = ParseSubnetKey(key); e.broken == nil {
		e.record, e.broken = DecodeRecord(value)
	}
	return e
}

// Subnet is whose key it is; invalid where the key names none.
func (e *Entry) Subnet() netip.Prefix { return e.subnet }

// Record is the value. With an error it holds what could be read.
func (e *Entry) Record() (Record, error) { return e.record, e.broken }

// Self is what a host must know of itself to judge the others.
type Self struct {
	Subnet netip.Prefix // the one that it holds; invalid while it holds none
	Public []netip.Addr // every address of its own
}

// Peer is another host of the network.
type Peer struct {
	Subnet netip.Prefix     // its containers'
	Public netip.Addr       // where it is reached
	MAC    net.HardwareAddr // of its tunnel endpoint; nil without VXLAN
	Node   string           // empty where flannel runs there
}

// Rejected is a record that makes no peer.
type Rejected struct {
	Key string
	Why error
}

// errOwnAddress is told of a record that claims this host's address.
var errOwnAddress = errors.New("its PublicIP is an address of this host")

// candidate is a record that could make a peer if no other claims the same addresses.
type candidate struct {
	Peer
	key     string
	created int64
}

// Accept tells which records make a peer, by subnet, and why the others do not. A bad one affects no other. Where two claim the same
// addresses, the subnet of the length that the network gives out wins over others, then the longer one, then the older record; a host's
// own subnet wins over all.
func (n *Network) Accept(entries []Entry, self Self) (peers []Peer, rejected []Rejected) {
	found := make([]candidate, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		p, err := n.peer(e, self)
		switch {
		case err != nil:
			rejected = append(rejected, Rejected{e.Key, err})
		case p.Subnet.IsValid():
			found = append(found, candidate{p, e.Key, e.Created})
		}
	}
	slices.SortFunc(rejected, byKey)
	if peers, apart := disjoint(found, self.Subnet); apart {
		return peers, rejected
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(n.rank(a.Subnet)-n.rank(b.Subnet), cmp.Compare(a.created, b.created), cmp.Compare(a.key, b.key))
	})
	held := prefixSet{lengths: lengths(found, self.Subnet), held: map[netip.Prefix]bool{}, within: map[netip.Prefix]netip.Prefix{}}
	held.add(self.Subnet)
	for _, c := range found {
		if other, overlaps := held.overlapping(c.Subnet); overlaps {
			rejected = append(rejected, Rejected{c.key, fmt.Errorf("it overlaps %s", other)})
			continue
		}
		held.add(c.Subnet)
		peers = append(peers, c.Peer)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	slices.SortFunc(rejected, byKey)
	return peers, rejected
}

func byKey(a, b Rejected) int { return cmp.Compare(a.Key, b.Key) }

// disjoint gives the peers by subnet where no two candidates claim the same addresses, nor any the host's own: as good as always, and then the
// order of who wins need not be found among thousands.
func disjoint(found []candidate, own netip.Prefix) (peers []Peer, apart bool) {
	order := make([]*candidate, len(found))
	for i := range found {
		order[i] = &found[i]
	}
	slices.SortFunc(order, func(a, b *candidate) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	peers = make([]Peer, len(order))
	for i, c := range order {
		// Of subnets in the order of their first addresses, two that overlap have neighbours that do.
		if own.Overlaps(c.Subnet) || i > 0 && order[i-1].Subnet.Overlaps(c.Subnet) {
			return nil, false
		}
		peers[i] = c.Peer
	}
	return peers, true
}

// lengths gives each prefix length that occurs, once.
func lengths(found []candidate, own netip.Prefix) []int {
	var seen []int
	if own.IsValid() {
		seen = append(seen, own.Bits())
	}
	for _, c := range found {
		if !slices.Contains(seen, c.Subnet.Bits()) {
			seen = append(seen, c.Subnet.Bits())
		}
	}
	return seen
}

// rank orders subnets by who wins: lower first.
func (n *Network) rank(p netip.Prefix) int {
	if p.Bits() == n.SubnetLen {
		return 0
	}
	return 33 - p.Bits()
}

// peer judges one record by itself. The host's own gives no peer and no error.
func (n *Network) peer(e *Entry, self Self) (Peer, error) {
	subnet, r := e.subnet, e.record
	if subnet.IsValid() && subnet == self.Subnet {
		return Peer{}, nil
	}
	if e.broken != nil {
		return Peer{}, e.broken
	}
	if subnet.Bits() <= n.Prefix.Bits() || !n.Prefix.Contains(subnet.Addr()) {
		return Peer{}, fmt.Errorf("it is not a part of the network %s", n.Prefix)
	}
	if err := n.checkPublic(r.PublicIP, self); err != nil {
		return Peer{}, err
	}
	p := Peer{Subnet: subnet, Public: r.PublicIP, Node: r.Node}
	switch n.Kind {
	case VXLAN:
		if r.Kind != VXLAN {
			return Peer{}, fmt.Errorf("its BackendType is %q, and the network's is %q", r.Kind, n.Kind)
		}
		if r.HasVNI && r.VNI != n.VNI {
			return Peer{}, fmt.Errorf("its VNI is %d, and the network's is %d", r.VNI, n.VNI)
		}
		p.MAC = r.MAC
	case HostGW:
		if r.Kind != HostGW {
			return Peer{}, fmt.Errorf("its BackendType is %q, and the network's is %q", r.Kind, n.Kind)
		}
	case UDP:
		// A host that carries its packets in datagrams names no type.
		if r.Kind != "" && r.Kind != UDP {
			return Peer{}, fmt.Errorf("its BackendType is %q, and the network's is %q", r.Kind, n.Kind)
		}
	}
	return p, nil
}

func (n *Network) checkPublic(a netip.Addr, self Self) error {
	switch {
	case !a.Is4() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240:
		return fmt.Errorf("its PublicIP %s is no host's address", a)
	case slices.Contains(self.Public, a):
		return errOwnAddress
	case n.Prefix.Contains(a):
		return fmt.Errorf("its PublicIP %s lies in the network itself", a)
	}
	return nil
}

// prefixSet finds overlaps among many prefixes. It knows beforehand which lengths there will be: there are few.
type prefixSet struct {
	lengths []int
	held    map[netip.Prefix]bool
	within  map[netip.Prefix]netip.Prefix // by a shorter prefix of one of the lengths: one that lies in it
}

func (s *prefixSet) add(p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	s.held[p] = true
	for _, bits := range s.lengths {
		if bits < p.Bits() {
			s.within[netip.PrefixFrom(p.Addr(), bits).Masked()] = p
		}
	}
}

// overlapping gives one of the set's prefixes that shares an address with p.
func (s *prefixSet) overlapping(p netip.Prefix) (netip.Prefix, bool) {
	for _, bits := range s.lengths {
		if q := netip.PrefixFrom(p.Addr(), bits).Masked(); bits <= p.Bits() && s.held[q] {
			return q, true
		}
	}
	q, ok := s.within[p]
	return q, ok
}
