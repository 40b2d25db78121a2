package lease

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// patience is more than anything here takes, on a busy machine too.
const patience = 30 * time.Second

// store is a real etcd, or one of its members.
type store struct {
	t       testing.TB
	dir     string
	client  string // URL
	peer    string
	name    string
	cluster string   // of all members, as etcd takes it
	flags   []string // more of etcd's
	etcd    Etcd     // how it is to be talked to, but for the endpoints
	cmd     *exec.Cmd
	c       *clientv3.Client
}

// newStore starts an etcd of one member.
func newStore(t testing.TB) *store {
	t.Helper()
	s := unstartedStore(t)
	s.start()
	s.connect()
	return s
}

func unstartedStore(t testing.TB) *store {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no etcd: apt-get install etcd-server")
		}
		t.Skip("no etcd: apt-get install etcd-server")
	}
	s := &store{t: t, dir: t.TempDir(), client: freeURL(t), peer: freeURL(t), name: "default", etcd: Etcd{Prefix: DefaultPrefix}}
	s.cluster = s.name + "=" + s.peer
	t.Cleanup(s.stop)
	return s
}

// connect makes the client that the test itself asks with.
func (s *store) connect() {
	s.t.Helper()
	s.etcd.Endpoints = []string{s.client}
	c, err := s.etcd.dial()
	if err != nil {
		s.t.Fatal(err)
	}
	s.c = c
	s.t.Cleanup(func() { c.Close() })
}

func freeURL(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func (s *store) start() {
	s.t.Helper()
	s.cmd = exec.Command("etcd", "--data-dir", filepath.Join(s.dir, "data"), "--listen-client-urls", s.client, "--advertise-client-urls", s.client,
		"--listen-peer-urls", s.peer, "--initial-advertise-peer-urls", s.peer, "--initial-cluster", s.cluster, "--log-level", "error",
		"--unsafe-no-fsync", "--name", s.name)
	s.cmd.Args = append(s.cmd.Args, s.flags...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// wipe makes it forget everything, as a new machine in its place.
func (s *store) wipe() {
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) put(key, value string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := s.c.Put(ctx, DefaultPrefix+"/"+key, value); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) delete(key string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := s.c.Delete(ctx, DefaultPrefix+"/"+key); err != nil {
		s.t.Fatal(err)
	}
}

// subnets are the records, by the key's last element.
func (s *store) subnets() map[string]entry {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	prefix := DefaultPrefix + "/subnets/"
	r, err := s.c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]entry{}
	for _, kv := range r.Kvs {
		element := string(kv.Key)[len(prefix):]
		all[element] = entry{overlay.NewEntry(element, kv.Value, kv.CreateRevision), kv.ModRevision, clientv3.LeaseID(kv.Lease)}
	}
	return all
}

// A network in which hosts that take any subnet take one of its upper half: a test that makes a peer by hand gives it one of the lower.
const sixteenVXLAN = `{"Network":"10.200.0.0/16","SubnetMin":"10.200.128.0","Backend":{"Type":"vxlan"}}`

// host is a member and what it keeps on its disk.
type host struct {
	*Member
	o    Options
	stop func() error // ends it; what Run gave
}

// options are a host's, whose number makes its address.
func (s *store) options(n int) Options {
	dir := s.t.TempDir()
	return Options{
		Etcd:    s.etcd,
		Public:  netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}),
		Memory:  filepath.Join(dir, "overlay.json"),
		Session: fmt.Sprintf("session-%d", n),
		TTL:     10 * time.Second,
		Margin:  2 * time.Second,
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (s *store) host(o Options) *host {
	s.t.Helper()
	m, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	h := &host{Member: m, o: o}
	done := false
	h.stop = func() error {
		if done {
			return nil
		}
		done = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("the member does not end")
		}
	}
	s.t.Cleanup(func() { h.stop() })
	return h
}

// until waits for what must come.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (h *host) untilJoined(t testing.TB) netip.Prefix {
	t.Helper()
	until(t, "joined", func() bool { v := h.View(); return v.State == Joined && v.Connected })
	return h.View().Subnet
}

func (h *host) untilPeers(t testing.TB, want int) {
	t.Helper()
	until(t, fmt.Sprintf("%d peers", want), func() bool { return len(h.View().Peers) == want })
}
