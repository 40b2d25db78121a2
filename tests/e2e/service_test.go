package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// service is the Debian package on a host with a systemd of its own, and traffic through it.
type service struct {
	*lab.Systemd
	host *lab.Host
	root *lab.Root
	web  *lab.Container
}

const unitName = "ebpfnet.service"

// pid is the agent's process, as systemd numbers it, once it answers.
func (s *service) pid(t *testing.T) string {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		out, err := s.Try("ebpfnet", "-o", "json", "status")
		if err != nil {
			return err
		}
		return lab.Running(out)
	})
	return s.Property(t, unitName, "MainPID")
}

// works asks in every direction, and has the datapath do what nobody else on this host does.
func (s *service) works(t *testing.T, when string) {
	t.Helper()
	eq(t, when+": in", s.host.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
	eq(t, when+": out", s.web.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
	// Programs for the host's sockets stand on systemd's own control group, which is the root of all that it runs.
	said := s.Run(t, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080; echo hello >&3; timeout 10 head -n 1 <&3")
	if !strings.Contains(said, `"name":"web"`) {
		t.Errorf("%s: the host's own port: %s", when, said)
	}
}

// undisturbed fails the test where one of the packets that go every 5 ms is lost, or a connection's bytes do not arrive, while fn runs.
func (s *service) undisturbed(t *testing.T, what string, fn func()) {
	t.Helper()
	out := s.web.NS.Beat(t, 4711, lab.RemoteIP, 5*time.Millisecond)
	stop := make(chan struct{})
	streams := map[string]*lab.Client{
		"in":  s.host.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)),
		"out": s.web.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000)),
	}
	type carried struct {
		name string
		n    int
		err  error
	}
	ended := make(chan carried, len(streams))
	for name, c := range streams {
		go func() {
			const chunk = 64 << 10
			end := carried{name: name}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					ended <- end
					return
				case <-tick.C:
				}
				got, err := c.Source(chunk, 10*lab.Patience)
				if err == nil && got != lab.BulkDigest(chunk) {
					err = fmt.Errorf("the bytes have changed")
				}
				if end.n += chunk; err != nil {
					end.err = err
					ended <- end
					return
				}
			}
		}()
	}
	fn()
	close(stop)
	for range streams {
		if e := <-ended; e.err != nil {
			t.Errorf("%s: stream %s after %d bytes: %v", what, e.name, e.n, e.err)
		} else {
			t.Logf("%s: stream %s: %d MiB", what, e.name, e.n>>20)
		}
	}
	sent, lost := out.Lost(t)
	t.Logf("%s: %d packets, one every 5 ms, %d lost", what, sent, lost)
	if lost > 0 || sent == 0 {
		t.Errorf("%s: %d of %d packets lost", what, lost, sent)
	}
}

// renewed waits until the agent is another one than before, and answers.
func (s *service) renewed(t *testing.T, before string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		if now := s.Property(t, unitName, "MainPID"); now == before || now == "0" {
			return fmt.Errorf("the main process is %s, and was %s", now, before)
		}
		return nil
	})
	s.pid(t)
}

// K-2, K-4: the Debian package under a systemd that is the first process: the unit is what it says, it is restarted, killed, hung and stopped
// while not a packet is lost, is up before docker.service when the machine starts, and leaves nothing.
func TestService(t *testing.T) {
	t.Parallel()
	h := suite.NewHost(t, lab.Native)
	s := &service{host: h, root: h.Root(t)}
	s.web = h.Run(t, "web")
	h.Remote.Serve(t, "far", ":7000")
	data, err := os.ReadFile(debian(t, "3.0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.root.Path("/tmp/ebpfnet.deb"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	s.root.Docker(t)
	s.Systemd = s.root.Boot(t)
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := s.Try("journalctl", "--no-pager", "--lines", "60")
			t.Log(said)
		}
	})

	before := snapshot(t, site{Host: h})
	s.Run(t, "dpkg", "--install", "/tmp/ebpfnet.deb")
	t.Run("as it says", s.asItSays)
	if out := s.Run(t, "ebpfnet", "attach", "--bridge", lab.Bridge, "--uplink", "up0"); strings.Contains(out, "problem") {
		t.Errorf("attach: %s", out)
	}
	s.Run(t, "ebpfnet", "publish", "8080:80", s.web.IP.String())
	s.works(t, "attached")

	t.Run("restarted", func(t *testing.T) {
		s.undisturbed(t, "restarted", func() {
			for range 3 {
				pid := s.pid(t)
				s.Run(t, "systemctl", "restart", unitName)
				s.renewed(t, pid)
			}
		})
		eq(t, "how it ended", s.Property(t, unitName, "Result"), "success")
		eq(t, "restarts of systemd's own", s.Property(t, unitName, "NRestarts"), "0")
		s.works(t, "restarted")
	})
	t.Run("killed", func(t *testing.T) {
		s.undisturbed(t, "killed", func() {
			pid := s.pid(t)
			s.Run(t, "systemctl", "kill", "--signal", "KILL", unitName)
			s.renewed(t, pid)
		})
		eq(t, "restarts of systemd's own", s.Property(t, unitName, "NRestarts"), "1")
		s.works(t, "killed")
	})
	t.Run("hung", s.hung)
	t.Run("stopped", func(t *testing.T) {
		s.undisturbed(t, "stopped", func() {
			s.Run(t, "systemctl", "stop", unitName)
			s.works(t, "stopped")
		})
		eq(t, "state", s.Property(t, unitName, "ActiveState"), "inactive")
		eq(t, "how it ended", s.Property(t, unitName, "Result"), "success")
	})
	s.startWithTheMachine(t)

	s.Run(t, "dpkg", "--remove", "ebpfnet")
	eq(t, "the unit, removed", s.Property(t, unitName, "ActiveState"), "inactive")
	if diff := difference(before, snapshot(t, site{Host: h})); len(diff) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(diff, "\n"))
	}
	s.Run(t, "dpkg", "--purge", "ebpfnet")
	s.Shutdown(t)
	noneLeft(t, s.root)
}

// asItSays compares the unit's settings with what systemd makes of them, and with the process.
func (s *service) asItSays(t *testing.T) {
	pid := s.pid(t)
	eq(t, "enabled", s.Property(t, unitName, "UnitFileState"), "enabled")
	eq(t, "active", s.Property(t, unitName, "ActiveState"), "active")
	eq(t, "type", s.Property(t, unitName, "Type"), "notify")
	if status := s.Property(t, unitName, "StatusText"); status == "" {
		t.Error("the agent tells systemd nothing of what it does")
	}
	if watched := s.Property(t, unitName, "WatchdogUSec"); watched == "0" || watched == "infinity" {
		t.Errorf("the watchdog: %s", watched)
	}
	if order := s.Property(t, unitName, "Before"); !strings.Contains(order, "docker.service") {
		t.Errorf("it starts before %s", order)
	}
	given := strings.Fields(s.Property(t, unitName, "CapabilityBoundingSet"))
	eq(t, "capabilities", strings.Join(given, " "), "cap_net_broadcast cap_net_admin cap_net_raw cap_perfmon cap_bpf")
	status := map[string]string{}
	for line := range strings.Lines(s.Run(t, "cat", "/proc/"+pid+"/status")) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	bits := uint64(1<<11 | 1<<12 | 1<<13 | 1<<38 | 1<<39) // include/uapi/linux/capability.h
	eq(t, "the process's capabilities", status["CapEff"], fmt.Sprintf("%016x", bits))
	eq(t, "the most that it could get", status["CapBnd"], fmt.Sprintf("%016x", bits))
	eq(t, "no new privileges", status["NoNewPrivs"], "1")
	eq(t, "a filter of system calls", status["Seccomp"], "2")
	t.Logf("%s", s.Run(t, "systemd-analyze", "--no-pager", "security", unitName))
}

// hung: an agent that does not feed its watchdog is killed and started anew.
func (s *service) hung(t *testing.T) {
	dir := s.root.Path("/etc/systemd/system/" + unitName + ".d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/soon.conf", []byte("[Service]\nWatchdogSec=6\nTimeoutAbortSec=5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Run(t, "systemctl", "daemon-reload")
	s.Run(t, "systemctl", "restart", unitName)
	s.undisturbed(t, "hung", func() {
		pid := s.pid(t)
		// Fed, it is left alone for longer than the watchdog waits.
		fed := time.Now()
		lab.Eventually(t, time.Minute, func() error {
			if waited := time.Since(fed); waited < 7*time.Second {
				return fmt.Errorf("only %v", waited)
			}
			return nil
		})
		eq(t, "fed", s.Property(t, unitName, "MainPID"), pid)
		s.Run(t, "kill", "-STOP", pid)
		s.renewed(t, pid)
	})
	if log := s.Run(t, "journalctl", "--no-pager", "--unit", unitName); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("not the watchdog's doing: %s", log)
	}
	s.works(t, "hung")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Run(t, "systemctl", "daemon-reload")
}

// startWithTheMachine: after the machine was switched off and on, containers are carried before docker.service starts.
func (s *service) startWithTheMachine(t *testing.T) {
	s.Run(t, "systemctl", "start", unitName)
	unit := "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'ebpfnet -o json status >/run/seen-by-docker'\n[Install]\nWantedBy=multi-user.target\n"
	if err := os.WriteFile(s.root.Path("/etc/systemd/system/docker.service"), []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Run(t, "systemctl", "enable", "docker.service")
	s.Shutdown(t)
	s.root.Forget(t)
	lab.Eventually(t, time.Minute, func() error { // the kernel takes its time with what nobody holds any more
		if got := hooks(t, site{Host: s.host}); got["up0 ingress"] > 0 {
			return fmt.Errorf("programs are attached without a machine: %v", got)
		}
		return nil
	})
	s.host.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8080))
	s.root.Docker(t)
	s.Systemd = s.root.Boot(t)
	seen, err := os.ReadFile(s.root.Path("/run/seen-by-docker"))
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Running(string(seen)); err != nil {
		t.Errorf("when docker.service starts: %v", err)
	}
	if !strings.Contains(string(seen), `"name": "`+lab.Bridge+`"`) {
		t.Errorf("when docker.service starts %s is not attached: %s", lab.Bridge, seen)
	}
	s.works(t, "after a reboot")
}
