package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Flannel is a host on a segment where a real flanneld does what the product does on the others.
type Flannel struct {
	*Host
	IP string // on the segment

	segment *Segment
	bin     string
	file    string // the subnet's
	daemon  *daemon
}

// JoinFlannel adds a host with that flanneld, and a dockerd whose bridge has the subnet that it leases.
func (g *Segment) JoinFlannel(t testing.TB, bin string, behind bool) *Flannel {
	t.Helper()
	network := "198.18.0"
	if behind {
		network = "198.19.0"
	}
	h, ip := g.host(t, network)
	f := &Flannel{Host: h, IP: ip, segment: g, bin: bin, file: filepath.Join(h.docker.dir, "subnet.env")}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Errorf("close flannel: %v", err)
		}
	})
	f.Start(t)
	env := f.Subnet(t)
	if err := h.docker.begin(g.suite, "--bip", env["FLANNEL_SUBNET"], "--mtu", env["FLANNEL_MTU"], "--ip-masq=false"); err != nil {
		t.Fatal(err)
	}
	// dockerd turns it on, but not before flanneld looks.
	if err := h.NS.setSysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	return f
}

// As makes a member of the product's a host of flannel's: it goes on with its dockerd and with its subnet. The agent must not run.
func (m *Member) As(bin string) *Flannel {
	return &Flannel{Host: m.Host, IP: m.IP, segment: m.segment, bin: bin, file: m.file}
}

// As makes a host of flannel's a member of the product's: it goes on with its dockerd and with its subnet. flanneld must not run.
func (f *Flannel) As(t testing.TB, flags ...string) *Member {
	t.Helper()
	m := &Member{Host: f.Host, IP: f.IP, segment: f.segment, flags: flags, file: f.file}
	var err error
	if m.Instance, err = f.Host.newInstance(); err != nil {
		t.Fatal(err)
	}
	return m
}

// Start starts flanneld.
func (f *Flannel) Start(t testing.TB) {
	t.Helper()
	var err error
	f.daemon, err = startDaemon(&f.suite.ledger, f.NS, f.Log(), f.bin, "-etcd-endpoints", etcdURL, "-iface", SegmentDevice, "-subnet-file", f.file, "-ip-masq")
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends flanneld as a service manager does, if it runs. One that does not end in time is killed: it is known to hang.
func (f *Flannel) Stop() error {
	if f.daemon == nil || f.daemon.exited() != nil {
		return nil
	}
	_ = f.daemon.cmd.Process.Signal(os.Interrupt)
	select {
	case <-f.daemon.done:
		return nil
	case <-time.After(3 * time.Second):
		return f.daemon.kill()
	}
}

// Kill ends flanneld without a word.
func (f *Flannel) Kill() error { return f.daemon.kill() }

// Forget takes from the kernel what a machine that boots does not have any more. flanneld must not run.
func (f *Flannel) Forget(t testing.TB) {
	t.Helper()
	for _, dev := range []string{"flannel.1", "flannel0"} {
		_, _ = f.NS.TryRun("ip", "link", "delete", dev)
	}
	for _, rule := range []string{
		"filter -D FORWARD -m comment --comment flanneldforward -j FLANNEL-FWD", "filter -F FLANNEL-FWD", "filter -X FLANNEL-FWD",
		"nat -D POSTROUTING -m comment --comment flanneldmasq -j FLANNEL-POSTRTG", "nat -F FLANNEL-POSTRTG", "nat -X FLANNEL-POSTRTG",
	} {
		args := strings.Fields(rule)
		for i, a := range args {
			args[i] = strings.Replace(a, "flanneld", "flanneld ", 1)
		}
		_, _ = f.NS.TryRun("iptables", append([]string{"--wait", "--table"}, args...)...)
	}
}

// Log is the file that flanneld's log is in.
func (f *Flannel) Log() string { return filepath.Join(f.docker.dir, "flannel.log") }

// Complaints are the lines of flanneld's log that tell of errors.
func (f *Flannel) Complaints(t testing.TB) []string {
	t.Helper()
	log, err := os.ReadFile(f.Log())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(log)) {
		if strings.HasPrefix(line, "E") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return slices.Clip(found)
}

// Subnet waits for the subnet's file, and returns what it says.
func (f *Flannel) Subnet(t testing.TB) map[string]string {
	t.Helper()
	var env map[string]string
	Eventually(t, time.Minute, func() error {
		if err := f.daemon.exited(); err != nil {
			return err
		}
		var err error
		env, err = readEnv(f.file)
		if err == nil && env["FLANNEL_SUBNET"] == "" {
			err = errors.New("no subnet yet")
		}
		return err
	})
	return env
}
