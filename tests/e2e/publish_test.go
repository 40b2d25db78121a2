package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// oneLine checks that a command that failed says one line, on standard error, with certain words.
func oneLine(t testing.TB, o lab.Outcome, words ...string) {
	t.Helper()
	line := strings.TrimSpace(o.Stderr)
	if line == "" || strings.Contains(line, "\n") {
		t.Errorf("standard error is not one line: %q", o.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(line), strings.ToLower(w)) {
			t.Errorf("%q does not say %q", line, w)
		}
	}
}

// publish and unpublish work on running containers, at once and for everyone.
func TestPublishRunning(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		web, n := s.Run(t, "web"), s.Run(t, "n")
		everyone := map[string]*lab.Netns{"remote": s.Remote, "host": s.NS, "neighbour": n.NS, "itself": web.NS}
		for _, proto := range []string{"tcp", "udp"} {
			s.Ebpfnet(t, "publish", "8070:80/"+proto, web.Name)
			for name, from := range everyone {
				eq(t, proto+" for "+name, from.Ask(t, proto, lab.At(lab.HostIP, 8070)).Name, "web")
			}
			s.Ebpfnet(t, "unpublish", "8070/"+proto)
			for _, from := range everyone {
				from.Unanswered(t, proto, lab.At(lab.HostIP, 8070))
			}
		}
		// By name, by a part of its id, by address.
		for _, target := range []string{web.Name, web.ID[:12], web.IP.String()} {
			s.Ebpfnet(t, "publish", "8070-8071:80-81", target)
			eq(t, "first of the range", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8070)).Local, web.At(80))
			eq(t, "last of the range", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8071)).Local, web.At(81))
			s.Ebpfnet(t, "unpublish", "8070-8071")
			s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 8071))
		}
		var p api.Port
		s.JSON(t, &p, "publish", lab.HostIP+":8072:80", web.Name)
		want := api.Port{HostIP: lab.HostIP, HostPort: 8072, HostEnd: 8072, ContainerPort: 80, ContainerEnd: 80, Proto: "tcp", Endpoint: web.Name,
			Address: web.IP.String(), Source: "user", Active: true}
		eq(t, "what publish prints", p, want)
		s.Ebpfnet(t, "unpublish", lab.HostIP+":8072")
		if o := s.Try(t, "unpublish", lab.HostIP+":8072"); o.Code != 1 {
			t.Errorf("unpublishing what is not published: exit %d", o.Code)
		}
	})
}

// Without a container, publish takes the only endpoint, or the only one whose image exposes the port; otherwise it lists them.
func TestPublishFindsItsContainer(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		if o := s.Try(t, "publish", "8080:80"); o.Code != 1 {
			t.Errorf("without endpoints: exit %d", o.Code)
		}
		first := s.Run(t, "first")
		s.Ebpfnet(t, "publish", "8080:80")
		eq(t, "the only endpoint", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Name, "first")
		second := s.Run(t, "second")
		o := s.Try(t, "publish", "8081:81")
		eq(t, "exit code with two", o.Code, 1)
		oneLine(t, o, first.Name, second.Name)
		third := s.Run(t, "third", "--expose", "81")
		s.Ebpfnet(t, "publish", "8081:81")
		eq(t, "the one that exposes it", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Local, third.At(81))
	})
}

// Ten thousand ports: how long it takes is printed, and the agent stays small. H-12 with a range that nobody lists one by one.
func TestTenThousandPorts(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		web := s.Run(t, "web", append([]string{"--"}, words("/bin/probe serve -name web -tcp 20000,25000,29999 -udp 25000 -http 81")...)...)
		before := rss(t, s)
		took := make(map[string]time.Duration)
		for _, proto := range []string{"tcp", "udp"} {
			start := time.Now()
			s.Ebpfnet(t, "publish", "20000-29999:20000-29999/"+proto, web.Name)
			took["publish "+proto] = time.Since(start)
		}
		for _, port := range []int{20000, 25000, 29999} {
			a := s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, port))
			eq(t, "port", a.Local, web.At(port))
			eq(t, "from the host", s.NS.Ask(t, "tcp", lab.At("127.0.0.1", port)).Local, web.At(port))
		}
		eq(t, "udp", s.Remote.Ask(t, "udp", lab.At(lab.HostIP, 25000)).Local, web.At(25000))
		after := rss(t, s)
		t.Logf("resident: %d KiB before, %d KiB with 20,000 ports", before>>10, after>>10)
		if after >= 64<<20 {
			t.Errorf("the agent is %d MiB resident", after>>20)
		}
		start := time.Now()
		s.Ebpfnet(t, "unpublish", "20000-29999/tcp")
		took["unpublish tcp"] = time.Since(start)
		s.Remote.Unanswered(t, "tcp", lab.At(lab.HostIP, 25000))
		eq(t, "udp, after", s.Remote.Ask(t, "udp", lab.At(lab.HostIP, 25000)).Local, web.At(25000))
		for what, d := range took {
			t.Logf("%s: %v", what, d.Round(time.Millisecond))
			if d > 5*time.Second {
				t.Errorf("%s took %v", what, d)
			}
		}
	})
}

// rss is the resident memory of the agent, in bytes.
func rss(t testing.TB, s site) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Status(t).Agent.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
