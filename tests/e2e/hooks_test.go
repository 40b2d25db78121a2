package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// hooks lists the programs on each device of the host's namespace, by TCX and by tc filters alike: "up0 ingress": 1.
func hooks(t testing.TB, s site) map[string]int {
	t.Helper()
	count := map[string]int{}
	err := s.NS.Do(func() error {
		devices, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, d := range devices {
			for name, at := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
				// A kernel without TCX has no programs there.
				if r, err := link.QueryPrograms(link.QueryOptions{Target: d.Index, Attach: at}); err == nil && len(r.Programs) > 0 {
					count[d.Name+" "+name] += len(r.Programs)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(s.NS.Run(t, "tc", "qdisc", "show")) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[1] == "clsact" {
			dev := fields[4]
			for _, way := range []string{"ingress", "egress"} {
				filters := s.NS.Run(t, "tc", "filter", "show", "dev", dev, way)
				if n := strings.Count(filters, "handle 0x1 "); n > 0 {
					count[dev+" "+way] += n
				}
			}
		}
	}
	return count
}

// pinnedPrograms are the ids of the programs behind an instance's links.
func pinnedPrograms(t testing.TB, in *lab.Instance) map[string]ebpf.ProgramID {
	t.Helper()
	ids := map[string]ebpf.ProgramID{}
	root := lab.Files(in.Name)[0]
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/links/") {
			return err
		}
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		ids[filepath.Base(path)] = info.Program
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// groupPrograms counts how often a program is attached to the root control group.
func groupPrograms(t testing.TB, id ebpf.ProgramID) int {
	t.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified/cgroup.procs"); err == nil {
		root += "/unified"
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	n := 0
	for _, at := range []ebpf.AttachType{
		ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg,
		ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername,
	} {
		r, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: at})
		if err != nil {
			t.Fatalf("programs of %s: %v", root, err)
		}
		for _, p := range r.Programs {
			if p.ID == id {
				n++
			}
		}
	}
	return n
}

// K-1: however often the agent is restarted, there is exactly one program of ours on each hook, and traffic goes on.
func TestOneProgramPerHook(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		web := s.Run(t, "web", "-p", "8080:80")
		s.Remote.Serve(t, "far", ":7000")
		in, out := s.Remote.Dial(t, "tcp", lab.At(lab.HostIP, 8080)), web.NS.Dial(t, "tcp", lab.At(lab.RemoteIP, 7000))
		one := func(when string) {
			t.Helper()
			e := s.Endpoint(t, web.IP)
			want := []string{"docker0 egress", "docker0 ingress", "up0 egress", "up0 ingress", "up1 egress", "up1 ingress", e.Veth + " egress", e.Veth + " ingress"}
			got := hooks(t, s)
			for hook, n := range got {
				if n != 1 || !slices.Contains(want, hook) {
					t.Errorf("%s: %d programs on %s", when, n, hook)
				}
			}
			eq(t, when+": hooks", len(got), len(want))
			for pin, id := range pinnedPrograms(t, s.Instance) {
				if strings.HasPrefix(pin, "cgroup") {
					eq(t, when+": attachments of "+pin, groupPrograms(t, id), 1)
				}
			}
		}
		one("at first")
		for i := range 6 {
			killAgent(t, s, i%2 == 0)
			s.Attach(t, docker0()...)
			in.Ask(t)
			out.Ask(t)
		}
		one("after six restarts")
		s.Attach(t, docker0()...)
		one("attached once more")
		eq(t, "a new connection", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "web")
	})
}
