package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// layouts lists the directories of maps that an instance has pinned.
func layouts(t testing.TB, s site) string {
	t.Helper()
	dirs, err := filepath.Glob("/sys/fs/bpf/ebpfnet/" + s.Instance.Name + "/v*")
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range dirs {
		dirs[i] = filepath.Base(d)
	}
	return strings.Join(dirs, " ")
}

// K-5, K-7: a new version with new programs and another layout of the maps takes over under load, and the old one does so again on the way
// back: every connection goes on, under its own translation, and nothing of the other version is left.
func TestUpgradeUnderLoad(t *testing.T) {
	later := suite.Later(t)
	for _, w := range worlds() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			h := suite.NewHost(t, w)
			s := site{h, h.Instance(t)}
			s.Attach(t, docker0()...)
			b := newBusy(t, s, true, 200, 80)
			s.Publish(t, "8081:80", b.web.Name)
			now := layouts(t, s)
			other := later
			for _, step := range []struct{ what, want string }{{"upgrade", "v1000"}, {"downgrade", now}} {
				b.during(t, step.what, func() {
					killAgent(t, s, false)
					other = s.Become(other)
					s.Attach(t, docker0()...)
				})
				eq(t, step.what+": layout", layouts(t, s), step.want)
				eq(t, step.what+": a new connection in", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Name, "web")
				eq(t, step.what+": a new connection out", b.n.NS.Ask(t, "udp", lab.At(lab.RemoteIP, 7000)).Seen().Addr().String(), lab.HostIP)
			}
		})
	}
}
