package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// snapshot is what a host's namespace is set to, one fact a line; counters, timers and what traffic teaches are left out.
func snapshot(t testing.TB, s site) []string {
	t.Helper()
	var facts []string
	add := func(kind, output string) {
		for line := range strings.Lines(output) {
			if line = strings.TrimSpace(line); line != "" {
				facts = append(facts, kind+": "+line)
			}
		}
	}
	volatile := regexp.MustCompile(`(hello_timer|tcn_timer|topology_change_timer|gc_timer|message_age|forward_delay_timer|hold_timer) +\S+|\b(qlen|numtxqueues) \d+|\blink-netns(id)? \S+`)
	add("link", volatile.ReplaceAllString(s.NS.Run(t, "ip", "-d", "-o", "link", "show"), ""))
	add("address", regexp.MustCompile(`valid_lft.*|tentative|dadfailed`).ReplaceAllString(s.NS.Run(t, "ip", "-o", "address", "show"), ""))
	add("route", s.NS.Run(t, "ip", "route", "show", "table", "all"))
	add("rule", s.NS.Run(t, "ip", "rule", "show"))
	add("qdisc", s.NS.Run(t, "tc", "qdisc", "show"))
	for line := range strings.Lines(s.NS.Run(t, "bridge", "fdb", "show")) {
		if strings.Contains(line, "permanent") || strings.Contains(line, "static") || strings.Contains(line, "extern_learn") {
			add("fdb", line)
		}
	}
	add("rules", regexp.MustCompile(`(?m)^#.*$|\[\d+:\d+\]`).ReplaceAllString(s.NS.Run(t, "iptables-save"), ""))
	for hook, n := range hooks(t, s) {
		add("hook", fmt.Sprintf("%s %d", hook, n))
	}
	err := s.NS.Do(func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || strings.Contains(path, "nf_conntrack_count")) {
				return nil
			}
			if err != nil {
				return err
			}
			// Some can only be written.
			if value, err := os.ReadFile(path); err == nil {
				add("sysctl", path+" "+strings.ReplaceAll(string(value), "\n", " "))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(facts)
	return facts
}

// difference is what is in one list alone.
func difference(a, b []string) (diff []string) {
	for _, f := range a {
		if !slices.Contains(b, f) {
			diff = append(diff, "- "+f)
		}
	}
	for _, f := range b {
		if !slices.Contains(a, f) {
			diff = append(diff, "+ "+f)
		}
	}
	return diff
}

// K-4: detach --all leaves the host as it was, with its agent or without one, and Docker's own path does what it did.
func TestDetachLeavesNothing(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		web, n := s.Host.Run(t, "web", "-p", "8080:80"), s.Host.Run(t, "n")
		network := s.Network(t, "net")
		s.Host.Run(t, "other", "--network", network)
		s.Remote.Serve(t, "far", ":7000")
		stock := func() map[string]bool {
			got := map[string]bool{}
			for name, ask := range map[string]func() error{
				"in": func() error {
					_, err := s.Remote.TryAsk("tcp", lab.At(lab.HostIP, 8080), lab.Within(lab.Doubt))
					return err
				},
				"host": func() error {
					_, err := s.NS.TryAsk("tcp", lab.At("127.0.0.1", 8080), lab.Within(lab.Doubt))
					return err
				},
				"out": func() error {
					_, err := n.NS.TryAsk("tcp", lab.At(lab.RemoteIP, 7000), lab.Within(lab.Doubt))
					return err
				},
				"hairpin": func() error {
					_, err := n.NS.TryAsk("tcp", lab.At(lab.HostIP, 8080), lab.Within(lab.Doubt))
					return err
				},
				"local": func() error { _, err := n.NS.TryAsk("tcp", web.At(80), lab.Within(lab.Doubt)); return err },
				"user's": func() error {
					_, err := s.Remote.TryAsk("tcp", lab.At(lab.HostIP, 8081), lab.Within(lab.Doubt))
					return err
				},
			} {
				got[name] = ask() == nil
			}
			return got
		}
		reachable, before := stock(), snapshot(t, s)
		eq(t, "stock Docker answers from outside", reachable["in"], s.World == lab.Default)

		for _, how := range []string{"with its agent", "without an agent", "after a crash"} {
			t.Run(how, func(t *testing.T) {
				s.Attach(t, "--all")
				s.await(t, web)
				s.Ebpfnet(t, "publish", "8081:80", web.Name)
				if during := difference(before, snapshot(t, s)); len(during) == 0 {
					t.Error("attaching changes nothing that the snapshot sees")
				}
				for name, ok := range stock() {
					eq(t, "attached: "+name, ok, true)
				}
				programs := pinnedPrograms(t, s.Instance)
				if len(programs) == 0 {
					t.Error("no links are pinned")
				}
				if how != "with its agent" {
					killAgent(t, s, how == "after a crash")
				}
				s.Ebpfnet(t, "detach", "--all", "--yes")
				for _, path := range lab.Files(s.Instance.Name) {
					if _, err := os.Lstat(path); err == nil {
						t.Errorf("left behind: %s", path)
					}
				}
				if diff := difference(before, snapshot(t, s)); len(diff) > 0 {
					t.Errorf("the host is not as it was:\n%s", strings.Join(diff, "\n"))
				}
				for pin, id := range programs {
					lab.Eventually(t, lab.Patience, func() error {
						if p, err := ebpf.NewProgramFromID(id); err == nil {
							p.Close()
							return fmt.Errorf("the program of %s (id %d) is still loaded", pin, id)
						}
						return nil
					})
				}
				for name, ok := range stock() {
					eq(t, "Docker's own path: "+name, ok, reachable[name])
				}
			})
		}
	})
}
