package agent

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/lease"
	"github.com/ebpfnet/ebpfnet/agent/tunnel"
	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/policy"
	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// OverlayOptions say how this host is one of several. Without an etcd endpoint the others are those that the user names.
type OverlayOptions struct {
	Etcd         lease.Etcd
	PublicIP     netip.Addr // where the others reach this host; invalid: the device's first
	Device       string     // empty: the default route's
	SubnetFile   string     // for dockerd's start; empty: none is written
	DockerConfig string     // dockerd's configuration file, to be given the subnet; empty: it is left alone
	TTL, Margin  time.Duration
	Renumber     bool
}

func (o *OverlayOptions) wanted() bool { return len(o.Etcd.Endpoints) > 0 }

// What hosts use that only the user told of each other.
const (
	staticVNI  = 1
	staticPort = 8472
	// vxlanRoom is what VXLAN adds to a packet.
	vxlanRoom = 50
)

// membership is the agent's side of the overlay. It belongs to the run loop but for the member, which runs by itself.
type membership struct {
	member *lease.Member // nil: none yet, or none wanted
	end    func()        // ends the member, and returns once it writes nothing any more
	left   bool          // the user took everything off: no member until something is attached
	failed chan error    // the member has ended, and with it the agent has to
	public tunnel.Public
	name   string // of the device
	device bool   // it may be there
	routes bool   // some may be there
	near   neighbours
	learnt map[netip.Addr]int // path MTUs that are less than the device's
	port   io.Closer          // the port of the datagrams; nil: not taken
	at     netip.AddrPort
}

// joinNetwork starts to follow etcd, once this host has an address to be reached at.
func (a *Agent) joinNetwork(ctx context.Context) error {
	if a.overlay.member != nil || !a.o.Overlay.wanted() {
		return nil
	}
	if !a.overlay.public.Addr.IsValid() {
		return nil
	}
	dir := filepath.Dir(a.o.Paths.State)
	session, err := lease.LoadSession(filepath.Join(a.o.Paths.Run, a.o.Paths.Instance+".session"))
	if err != nil {
		return err
	}
	o := lease.Options{
		Etcd: a.o.Overlay.Etcd, Public: a.overlay.public.Addr, Memory: filepath.Join(dir, "overlay.json"), Session: session,
		TTL: a.o.Overlay.TTL, Margin: a.o.Overlay.Margin, Renumber: a.o.Overlay.Renumber, Log: a.log,
	}
	if a.o.Overlay.SubnetFile != "" {
		if o.Wanted, err = lease.ReadSubnetFile(a.o.Overlay.SubnetFile); err != nil {
			a.log.Warn("overlay", "problem", err)
		}
	}
	m, err := lease.New(o)
	if err != nil {
		return err
	}
	a.overlay.member = m
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	a.overlay.end = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		if err := m.Run(ctx); err != nil {
			a.overlay.failed <- err
		}
	}()
	return nil
}

// stopMember ends this host's part in etcd's keys where it has one; its lease and its memory stay.
func (a *Agent) stopMember() {
	if a.overlay.member != nil {
		a.overlay.end()
		a.overlay.member = nil
	}
}

// leaveNetwork ends it and forgets it. The lease in etcd ends by itself, as that of a host that is gone.
func (a *Agent) leaveNetwork() error {
	a.stopMember()
	a.overlay.left = a.o.Overlay.wanted()
	return forgetNetwork(a.o.Paths, a.o.Overlay.SubnetFile)
}

// overlayChanges gives a value when the other hosts have changed.
func (a *Agent) overlayChanges() <-chan struct{} {
	if a.overlay.member == nil {
		return nil
	}
	return a.overlay.member.Changes()
}

// lookOverlay adds what is known of the other hosts to what was observed, with a device to reach them by where one is needed.
func (a *Agent) lookOverlay(ctx context.Context, o *policy.Observed) error {
	if a.overlay.left || !a.o.Overlay.wanted() && len(a.state.Intent.Peers) == 0 {
		return nil
	}
	if err := a.findNetwork(ctx); err != nil {
		return err
	}
	if a.overlay.member == nil {
		o.Overlay = a.staticOverlay(o.Bridges)
	} else {
		var err error
		if o.Overlay, err = a.leasedOverlay(); err != nil || o.Overlay == nil {
			return err
		}
	}
	return a.overlay.near.find(a.host.Overlay, o.Overlay)
}

// findNetwork finds where the others reach this host, and begins to follow etcd where there is one. Etcd answers while this host does other things.
func (a *Agent) findNetwork(ctx context.Context) error {
	if a.overlay.left || !a.o.Overlay.wanted() && len(a.state.Intent.Peers) == 0 {
		return nil
	}
	public, err := a.host.Overlay.FindPublic(a.o.Overlay.PublicIP, a.o.Overlay.Device)
	if err != nil {
		return fmt.Errorf("find this host's address for the others: %w", err)
	}
	a.overlay.public = public
	return a.joinNetwork(ctx)
}

// staticOverlay is made of what the user named.
func (a *Agent) staticOverlay(bridges []policy.Bridge) *policy.Overlay {
	public := a.overlay.public
	v := &policy.Overlay{
		Kind: overlay.VXLAN, Public: public.Addr, MAC: overlay.DerivedMAC(public.Addr), VNI: staticVNI, Port: staticPort, MTU: public.MTU - vxlanRoom,
		Addr: a.staticAddr(bridges), Uplink: public.Name,
	}
	for _, p := range a.state.Intent.Peers {
		v.Peers = append(v.Peers, p.Peer())
	}
	return v
}

// staticAddr is what this host shows to other hosts' containers: the first address of the first attached bridge's network, as where the
// subnet is leased. They know the way back to it. The bridge's own would not do: Docker masquerades what has it and leaves by another device,
// with an address of that device.
func (a *Agent) staticAddr(bridges []policy.Bridge) netip.Addr {
	in := &a.state.Intent
	for _, b := range bridges {
		attached := slices.ContainsFunc(in.Bridges, func(i policy.BridgeIntent) bool { return i.Name == b.Name })
		if (attached || in.All && !slices.Contains(in.Except, b.Name)) && len(b.Addrs) > 0 {
			return b.Addrs[0].Masked().Addr()
		}
	}
	return netip.Addr{}
}

// leasedOverlay is made of what etcd told. nil: nothing yet.
func (a *Agent) leasedOverlay() (*policy.Overlay, error) {
	v := a.overlay.member.View()
	if !v.Known() {
		return nil, nil
	}
	n := v.Network
	mtu := n.InnerMTU(a.overlay.public.MTU)
	if v.State == lease.Joined {
		if err := a.tellDocker(n, v.Subnet, mtu); err != nil {
			return nil, err
		}
	}
	out := &policy.Overlay{
		Kind: n.Kind, Network: n.Prefix, Subnet: v.Subnet, Public: v.Public, MAC: v.MAC, VNI: n.VNI, Port: n.Port, MTU: mtu, Peers: v.Peers,
		Direct: n.Kind == overlay.HostGW || n.DirectRouting, Uplink: a.overlay.public.Name,
	}
	if n.Kind != overlay.HostGW {
		out.Addr = v.Subnet.Addr()
	}
	return out, nil
}

// tellDocker writes the files from which dockerd learns its bridge's addresses.
func (a *Agent) tellDocker(n overlay.Network, subnet netip.Prefix, mtu int) error {
	if path := a.o.Overlay.SubnetFile; path != "" {
		if err := lease.WriteSubnetFile(path, n, subnet, mtu); err != nil {
			return err
		}
	}
	if path := a.o.Overlay.DockerConfig; path != "" {
		changed, err := lease.WriteDockerConfig(path, subnet, mtu)
		if err != nil {
			return err
		}
		if changed {
			a.log.Info("docker's configuration is written: restart dockerd", "file", path, "subnet", subnet, "mtu", mtu)
		}
	}
	return nil
}

// ensureTunnel makes the device be there that leads into the tunnel, where one is needed, and writes its ifindex into what Compile reads.
func (a *Agent) ensureTunnel(v *policy.Overlay) error {
	if v == nil || v.Kind == overlay.HostGW {
		return a.removeTunnel()
	}
	d := tunnel.Device{Name: a.overlay.name, Port: v.Port, MTU: v.MTU, MAC: v.MAC, Addr: v.Addr}
	a.overlay.device = true
	var done string
	var err error
	if v.Kind == overlay.UDP {
		if err := a.reservePort(netip.AddrPortFrom(v.Public, v.Port)); err != nil {
			return err
		}
		v.Device, v.Far, done, err = a.host.Overlay.EnsurePair(d)
	} else {
		a.releasePort()
		v.Device, done, err = a.host.Overlay.Ensure(d)
	}
	if err != nil {
		return err
	}
	if done != "" {
		a.log.Info("tunnel device", "name", d.Name, "done", done)
	}
	return nil
}

// reservePort keeps the port of the datagrams from everybody else.
func (a *Agent) reservePort(at netip.AddrPort) error {
	if a.overlay.port != nil && a.overlay.at == at {
		return nil
	}
	a.releasePort()
	port, err := a.host.Overlay.Reserve(at)
	if err != nil {
		return err
	}
	a.overlay.port, a.overlay.at = port, at
	return nil
}

func (a *Agent) releasePort() {
	if a.overlay.port == nil {
		return
	}
	if err := a.overlay.port.Close(); err != nil {
		a.log.Warn("overlay", "problem", err)
	}
	a.overlay.port = nil
}

// removeTunnel takes the device away where it may be there.
func (a *Agent) removeTunnel() error {
	a.releasePort()
	if !a.overlay.device {
		return nil
	}
	if err := a.host.Overlay.Remove(a.overlay.name); err != nil {
		return err
	}
	a.overlay.device = false
	return nil
}

// syncRoutes gives the host's own traffic its way to the other hosts' containers: all of the network into the tunnel, and hosts that are
// reached without one by a route each.
func (a *Agent) syncRoutes(v *policy.Overlay, r policy.Result) error {
	var want []tunnel.Route
	if v != nil {
		want = a.routes(v, r)
	}
	if len(want) == 0 && !a.overlay.routes {
		return nil
	}
	a.overlay.routes = true
	if err := a.host.Overlay.SyncRoutes(want); err != nil {
		return err
	}
	a.overlay.routes = len(want) > 0
	return nil
}

func (a *Agent) routes(v *policy.Overlay, r policy.Result) []tunnel.Route {
	var want []tunnel.Route
	if v.Device != 0 && v.Network.IsValid() {
		want = append(want, tunnel.Route{Subnet: v.Network, Device: v.Device, Source: v.Addr})
	}
	for _, p := range r.Peers {
		switch {
		case p.Direct:
			want = append(want, tunnel.Route{Subnet: p.Subnet, Via: p.Via, Device: a.overlay.near.devices[p.Via]})
		case v.Device != 0 && !v.Network.IsValid():
			want = append(want, tunnel.Route{Subnet: p.Subnet, Device: v.Device, Source: v.Addr, MTU: a.pathMTU(v, p.Via)})
		case v.Device != 0 && a.pathMTU(v, p.Via) > 0:
			want = append(want, tunnel.Route{Subnet: p.Subnet, Device: v.Device, Source: v.Addr, MTU: a.pathMTU(v, p.Via)})
		}
	}
	return want
}

// overlayProblems are what is wrong between this host and the others.
func (a *Agent) overlayProblems() []string {
	if a.overlay.member == nil {
		return nil
	}
	v := a.overlay.member.View()
	problems := slices.Clone(v.Notes)
	if v.Problem != "" {
		problems = append(problems, "overlay: "+v.Problem)
	}
	for i, r := range v.Rejected {
		if i == 10 {
			problems = append(problems, fmt.Sprintf("overlay: %d more records in etcd make no peer", len(v.Rejected)-i))
			break
		}
		problems = append(problems, fmt.Sprintf("overlay: record %s makes no peer: %v", r.Key, r.Why))
	}
	return problems
}

// removeOverlay takes away what the overlay has in the kernel.
func removeOverlay(h overlayHost, p loader.Paths) error {
	if err := h.SyncRoutes(nil); err != nil {
		return err
	}
	return h.Remove(tunnel.DeviceName(p.Instance, loader.DefaultInstance))
}

// forgetNetwork removes what a member keeps on disk, and the files given. No member may run.
func forgetNetwork(p loader.Paths, files ...string) error {
	for _, f := range append(files, filepath.Join(filepath.Dir(p.State), "overlay.json"), filepath.Join(p.Run, p.Instance+".session")) {
		if err := lease.RemoveFile(f); err != nil {
			return err
		}
	}
	return nil
}

// overlayStatus is this host's place among the others for those who ask.
func (a *Agent) overlayStatus() *api.OverlayStatus {
	s := &api.OverlayStatus{PublicIP: a.overlay.public.Addr.String(), Peers: len(a.settled.Peers)}
	switch {
	case a.overlay.member != nil:
		v := a.overlay.member.View()
		s.State, s.Connected, s.Backend = string(v.State), v.Connected, string(v.Network.Kind)
		if v.Known() {
			s.Network, s.Subnet, s.MTU = v.Network.Prefix.String(), v.Subnet.String(), v.Network.InnerMTU(a.overlay.public.MTU)
		}
		return s
	case len(a.state.Intent.Peers) > 0:
		s.State, s.Backend, s.MTU = "static", string(overlay.VXLAN), a.overlay.public.MTU-vxlanRoom
		return s
	default:
		return nil
	}
}
