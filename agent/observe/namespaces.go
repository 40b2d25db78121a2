package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/policy"
)

// namesFolder is where `ip netns` keeps the namespaces that it has given names.
const namesFolder = "/run/netns"

// namespaces looks into other network namespaces without entering them: rtnetlink answers for a namespace that the own one has a number for
// (IFLA_TARGET_NETNSID, IFA_TARGET_NETNSID; linux/if_link.h, linux/if_addr.h, kernel 5.0).
type namespaces struct {
	socket *nl.NetlinkSocket
	folder string
	files  map[string]namedSpace
	names  map[int]string // by id, as readNames saw them last
}

// namedSpace is a file in the folder of names. A namespace's inode number is soon given to another one, but not at the same time.
type namedSpace struct {
	inode uint64
	born  unix.Timespec
	id    int // -1 where the own namespace has no number for it yet
}

func newNamespaces() (*namespaces, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// Without strict checking the kernel would not look at the namespace that a dump of addresses asks for.
	if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		socket.Close()
		return nil, fmt.Errorf("set NETLINK_GET_STRICT_CHK (kernel 4.20): %w", err)
	}
	return &namespaces{socket: socket, folder: namesFolder}, nil
}

func (n *namespaces) close() { n.socket.Close() }

func (n *namespaces) execute(req *nl.NetlinkRequest, answer uint16) ([][]byte, error) {
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Seq: req.Seq, Socket: n.socket}}
	return req.Execute(unix.NETLINK_ROUTE, answer)
}

// endpoint tells what is at the other end of a veth whose peer's namespace has a number. found is false where the namespace or the device is
// gone by now; anything else that keeps it from being seen is an error, as the endpoint may be there.
func (n *namespaces) endpoint(veth *netlink.LinkAttrs) (e policy.Endpoint, found bool, err error) {
	peer, err := n.link(veth.NetNsID, veth.ParentIndex)
	if gone(err) {
		return policy.Endpoint{}, false, nil
	} else if err != nil {
		return policy.Endpoint{}, false, err
	}
	addrs, err := n.addrs(veth.NetNsID, veth.ParentIndex)
	if gone(err) {
		return policy.Endpoint{}, false, nil
	} else if err != nil {
		return policy.Endpoint{}, false, err
	}
	at := peer.Attrs()
	return policy.Endpoint{
		Veth: veth.Name, Index: veth.Index, Bridge: veth.MasterIndex,
		NSID: veth.NetNsID, Namespace: n.names[veth.NetNsID],
		PeerName: at.Name, PeerIndex: at.Index, MAC: at.HardwareAddr, MTU: at.MTU,
		Addrs: addrs,
	}, true, nil
}

// gone tells what rtnetlink says of a namespace's number that is free again, and of a device that is not there.
func gone(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) }

func (n *namespaces) link(nsid, index int) (netlink.Link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(nsid))))
	answers, err := n.execute(req, unix.RTM_NEWLINK)
	if err != nil {
		return nil, fmt.Errorf("get device %d of namespace %d: %w", index, nsid, err)
	}
	if len(answers) != 1 {
		return nil, fmt.Errorf("get device %d of namespace %d: %d answers", index, nsid, len(answers))
	}
	return netlink.LinkDeserialize(nil, answers[0])
}

// addrs gives a device's IPv4 addresses, primary first.
func (n *namespaces) addrs(nsid, index int) ([]netip.Prefix, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	msg := nl.NewIfAddrmsg(unix.AF_INET)
	msg.Index = uint32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_TARGET_NETNSID, nl.Uint32Attr(uint32(nsid))))
	answers, err := complete(func() ([][]byte, error) { return n.execute(req, unix.RTM_NEWADDR) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of namespace %d: %w", nsid, err)
	}
	var addrs []netip.Prefix
	for _, m := range answers {
		if p, ok := ifaddr(m, index); ok {
			addrs = append(addrs, p)
		}
	}
	return addrs, nil
}

// ifaddr reads a struct ifaddrmsg and its attributes (linux/if_addr.h).
func ifaddr(m []byte, index int) (netip.Prefix, bool) {
	if len(m) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(m[4:])) != index {
		return netip.Prefix{}, false
	}
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfAddrmsg:])
	if err != nil {
		return netip.Prefix{}, false
	}
	var addr netip.Addr
	for _, a := range attrs {
		// Between the ends of a point-to-point device IFA_ADDRESS is the other's, and IFA_LOCAL one's own.
		if a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, _ = netip.AddrFromSlice(a.Value)
		}
	}
	return netip.PrefixFrom(addr, int(m[1])), addr.IsValid()
}

// readNames looks which namespaces have names. Of several the first one in the alphabet counts.
func (n *namespaces) readNames() {
	files, names := map[string]namedSpace{}, map[int]string{}
	entries, err := os.ReadDir(n.folder)
	if err != nil {
		entries = nil
	}
	for _, e := range entries {
		s, ok := n.read(e.Name())
		if !ok {
			continue
		}
		files[e.Name()] = s
		if names[s.id] == "" && s.id >= 0 {
			names[s.id] = e.Name()
		}
	}
	n.files, n.names = files, names
}

// read asks for the number of a namespace, which stays as it is once there is one.
func (n *namespaces) read(name string) (namedSpace, bool) {
	path := filepath.Join(n.folder, name)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namedSpace{}, false
	}
	if s, ok := n.files[name]; ok && s.id >= 0 && s.inode == st.Ino && s.born == st.Ctim {
		return s, true
	}
	f, err := os.Open(path)
	if err != nil {
		return namedSpace{}, false
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return namedSpace{}, false
	}
	id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
	if err != nil {
		return namedSpace{}, false
	}
	return namedSpace{inode: st.Ino, born: st.Ctim, id: id}, true
}
