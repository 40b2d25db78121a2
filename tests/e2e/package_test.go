package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// debian makes the package in a version, and gives its path.
func debian(t *testing.T, version string) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(mod)))
	if out, err := exec.Command("make", "-C", dir, "deb", "DEB_VERSION="+version).CombinedOutput(); err != nil {
		t.Fatalf("make deb: %v: %s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "dist", "ebpfnet_"+version+"_*.deb"))
	if err != nil || len(made) != 1 {
		t.Fatalf("make deb made %v, %v", made, err)
	}
	t.Cleanup(func() { os.Remove(made[0]) })
	return made[0]
}

// unitSetting is what a setting of the package's unit says.
func unitSetting(t *testing.T, unit, name string) string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("the unit has no %s", name)
	}
	return string(m[1])
}

// K-4: the Debian package is installed, carries a container's traffic with no more capabilities than its unit gives, is upgraded under
// that traffic, and leaves nothing when it is removed and purged.
func TestDebianPackage(t *testing.T) {
	h := suite.NewHost(t, lab.Native)
	r := h.Root(t)
	for i, version := range []string{"1.0", "2.0"} {
		data, err := os.ReadFile(debian(t, version))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.Path(fmt.Sprintf("/tmp/ebpfnet%d.deb", i+1)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	web := h.Run(t, "web")
	h.Remote.Serve(t, "far", ":7000")
	bare := site{Host: h}
	before := snapshot(t, bare)

	r.Run(t, "dpkg", "--install", "/tmp/ebpfnet1.deb")
	unit := r.Path("/lib/systemd/system/ebpfnet.service")
	if out := r.Run(t, "systemd-analyze", "verify", "/lib/systemd/system/ebpfnet.service"); strings.Contains(out, "ebpfnet") {
		t.Errorf("systemd does not like the unit: %s", out)
	}
	if _, err := os.Lstat(r.Path("/etc/systemd/system/multi-user.target.wants/ebpfnet.service")); err != nil {
		t.Errorf("the unit is not enabled: %v", err)
	}
	capabilities := "-all"
	for _, c := range strings.Fields(unitSetting(t, unit, "CapabilityBoundingSet")) {
		capabilities += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	agent := func() (stop func()) {
		stop = r.Start(t, "setpriv", append([]string{"--no-new-privs", "--bounding-set", capabilities, "--inh-caps", "-all"},
			strings.Fields(strings.ReplaceAll(unitSetting(t, unit, "ExecStart"), "$EBPFNET_OPTIONS", "--metrics-addr off"))...)...)
		lab.Eventually(t, time.Minute, func() error { // with a datapath to take over it answers when its programs are verified
			return lab.Running(r.Run(t, "ebpfnet", "-o", "json", "status"))
		})
		return stop
	}
	stop := agent()
	if out := r.Run(t, "ebpfnet", "attach", "--bridge", lab.Bridge, "--uplink", "up0"); strings.Contains(out, "problem") {
		t.Errorf("attach: %s", out)
	}
	r.Run(t, "ebpfnet", "publish", "8080:80", web.IP.String())
	in, out := h.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)), web.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000))
	works := func(when string) {
		t.Helper()
		eq(t, when+": in", in.Ask(t).Name, "web")
		eq(t, when+": out", out.Ask(t).Name, "far")
		eq(t, when+": new, in", h.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
		eq(t, when+": new, out", web.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
		eq(t, when+": the host's own", h.NS.Ask(t, "tcp", lab.At("127.0.0.1", 8080)).Name, "web")
	}
	works("installed")

	conf := r.Path("/etc/default/ebpfnet")
	if err := os.WriteFile(conf, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.Run(t, "dpkg", "--install", "/tmp/ebpfnet2.deb")
	works("unpacked over the old one")
	stop()
	works("without an agent")
	stop = agent()
	works("upgraded")
	if text, err := os.ReadFile(conf); err != nil || string(text) != "# mine\n" {
		t.Errorf("the configuration after an upgrade: %v: %s", err, text)
	}

	stop()
	r.Run(t, "dpkg", "--remove", "ebpfnet")
	if diff := difference(before, snapshot(t, bare)); len(diff) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(diff, "\n"))
	}
	if _, err := os.Lstat(r.Path("/sys/fs/bpf/ebpfnet")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	if _, err := os.Stat(conf); err != nil {
		t.Errorf("the configuration is to outlive the package's removal: %v", err)
	}
	r.Run(t, "dpkg", "--purge", "ebpfnet")
	noneLeft(t, r)
}

// noneLeft looks for what the package has made and not taken away. The whiteouts of what the machine has under such a name are no files.
func noneLeft(t *testing.T, r *lab.Root) {
	t.Helper()
	err := filepath.WalkDir(r.Changes, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, r.Changes)
		if strings.Contains(name, "ebpfnet") && d.Type()&fs.ModeCharDevice == 0 && !strings.HasPrefix(name, "/tmp/") {
			t.Errorf("left behind: %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(r.Path("/run/*ebpfnet*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
