package e2e

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Rules that are not Docker's own are not bypassed unless that is asked for by name: over Docker's rules they decide, and where nobody but the
// datapath would translate attaching refuses.
func TestForeignRules(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		type rule struct {
			name     string
			add, del string
			say      string
		}
		rules := []rule{
			{"FORWARD", "iptables -I FORWARD -s 203.0.113.99 -j DROP", "iptables -D FORWARD -s 203.0.113.99 -j DROP", "203.0.113.99"},
			{"nft forward hook", "nft add table inet guard ; add chain inet guard way { type filter hook forward priority 0 ; } ; add rule inet guard way ip saddr 203.0.113.98 drop",
				"nft delete table inet guard", "guard"},
		}
		if s.World == lab.Default {
			rules = append(rules, rule{"DOCKER-USER", "iptables -I DOCKER-USER -s 203.0.113.97 -j DROP", "iptables -D DOCKER-USER -s 203.0.113.97 -j DROP", "DOCKER-USER"})
		}
		for _, r := range rules {
			t.Run(r.name, func(t *testing.T) {
				run := func(command string) {
					tool, rest, _ := strings.Cut(command, " ")
					if tool == "nft" {
						s.NS.Run(t, tool, rest)
						return
					}
					s.NS.Run(t, tool, words(rest)...)
				}
				run(r.add)
				if s.World == lab.Default {
					out := s.Attach(t, docker0()...)
					if !strings.Contains(out, "mode offload") || !strings.Contains(out, r.say) {
						t.Errorf("attach says %q", out)
					}
					b := s.Status(t).Bridges[0]
					eq(t, "mode", b.Mode, "offload")
					if !strings.Contains(b.Reason, r.say) {
						t.Errorf("the reason is %q, want %s in it", b.Reason, r.say)
					}
				} else {
					o := s.Try(t, append([]string{"attach"}, docker0()...)...)
					eq(t, "exit code", o.Code, 1)
					oneLine(t, o, r.say, "--mode native")
					eq(t, "hooks in use", len(hooks(t, s)), 0)
				}
				s.Attach(t, append(docker0(), "--mode", "native")...)
				eq(t, "mode", s.Status(t).Bridges[0].Mode, "native")
				s.Ebpfnet(t, "detach", "--all", "--yes")
				run(r.del)
			})
		}
		s.Attach(t, docker0()...)
	})
}

// Bad input ends with one line that says what and what to do, exit 1 or 2, and nothing half done.
func TestBadInput(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.NS.IP(t, "link add bare type bridge")
		s.NS.IP(t, "link set bare up")
		attach := func(args ...string) []string { return append([]string{"attach"}, args...) }
		type bad struct {
			name string
			args []string
			code int
			say  []string
		}
		check := func(t *testing.T, table []bad) {
			for _, b := range table {
				t.Run(b.name, func(t *testing.T) {
					o := s.Try(t, b.args...)
					eq(t, "exit code", o.Code, b.code)
					eq(t, "standard output", o.Stdout, "")
					oneLine(t, o, b.say...)
				})
			}
		}
		check(t, []bad{
			{"unknown bridge", attach("--bridge", "nosuch0"), 1, []string{"nosuch0", "docker0"}},
			{"a bridge without an address", attach("--bridge", "bare"), 1, []string{"bare", "address"}},
			{"not a bridge", attach("--bridge", "up0"), 1, []string{"up0", "not a bridge"}},
			{"unknown uplink", attach("--bridge", "docker0", "--uplink", "nosuch1"), 1, []string{"nosuch1"}},
			{"nothing to attach", attach(), 2, []string{"--bridge"}},
			{"both ways", attach("--all", "--bridge", "docker0"), 2, []string{"--all"}},
			{"unknown mode", attach("--bridge", "docker0", "--mode", "fast"), 2, []string{"fast"}},
			{"no Docker", attach("--all", "--docker-host", "unix:///nonexistent.sock"), 1, []string{"docker"}},
			{"no agent", []string{"publish", "8080:80"}, 1, []string{"agent", "attach"}},
			{"unknown command", []string{"attatch"}, 2, []string{"attatch"}},
			{"unknown output", []string{"-o", "xml", "status"}, 2, []string{"xml"}},
		})
		if hooks := hooks(t, s); len(hooks) > 0 {
			t.Errorf("refused attachments have left %v", hooks)
		}
		for _, path := range lab.Files(s.Instance.Name) {
			if _, err := s.NS.TryRun("stat", path); err == nil {
				t.Errorf("refused attachments have left %s", path)
			}
		}

		s.Attach(t, docker0()...)
		web, n := s.Run(t, "web", "-p", "8080:80"), s.Run(t, "n")
		stopped := s.Host.Run(t, "stopped")
		stopped.Stop(t)
		s.NS.Serve(t, "host", ":9000")
		s.Ebpfnet(t, "publish", "8081-8085:80-84", web.Name)
		publish := func(args ...string) []string { return append([]string{"publish"}, args...) }
		before := len(s.Ports(t))
		check(t, []bad{
			{"published by Docker", publish("8080:80", n.Name), 1, []string{"8080", web.Name}},
			{"published by the user", publish("8083:80", n.Name), 1, []string{"8083", web.Name}},
			{"part of a range", publish("8085-8090:80-85", n.Name), 1, []string{"8085"}},
			{"listened on by the host", publish("9000:80", web.Name), 1, []string{"9000"}},
			{"listened on, UDP", publish("9000:80/udp", web.Name), 1, []string{"9000"}},
			{"a range with a listener in it", publish("8990-9010:80-100", web.Name), 1, []string{"9000"}},
			{"a container that does not run", publish("8090:80", stopped.Name), 1, []string{stopped.Name, "run"}},
			{"unknown container", publish("8090:80", "nosuch"), 1, []string{"nosuch"}},
			{"ambiguous container", publish("8090:81"), 1, []string{web.Name, n.Name}},
			{"ranges of different lengths", publish("8090-8092:80-81", web.Name), 2, []string{"8090-8092"}},
			{"port 0", publish("0:80", web.Name), 2, []string{"0"}},
			{"port 70000", publish("70000:80", web.Name), 2, []string{"70000"}},
			{"container port 0", publish("8090:0", web.Name), 2, []string{"0"}},
			{"backwards", publish("8092-8090:80-82", web.Name), 2, []string{"8092-8090"}},
			{"unknown protocol", publish("8090:80/icmp", web.Name), 2, []string{"icmp"}},
			{"not an address", publish("host:8090:80", web.Name), 2, []string{"host"}},
			{"nothing", publish(), 2, nil},
			{"not published", []string{"unpublish", "8095"}, 1, []string{"8095"}},
			{"Docker's own", []string{"unpublish", "8080"}, 1, []string{"8080", "docker"}},
			{"unknown endpoint", []string{"endpoint", "get", "nosuch"}, 1, []string{"nosuch"}},
			{"a bridge that is not attached", []string{"detach", "--bridge", "bare"}, 1, []string{"bare"}},
		})
		eq(t, "ports after all that", len(s.Ports(t)), before)
		eq(t, "a port after all that", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8081)).Name, "web")
		s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 9000))
	})
}

// K-13: without privileges, without bpffs, and on a machine without version 2 of control groups, the product says so or does with less.
func TestHostileHosts(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		// as runs the product's attach through another program, which takes something away first.
		as := func(t *testing.T, wrapper ...string) lab.Outcome {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := s.Command(ctx, append([]string{"attach"}, docker0()...)...)
			i := 0
			for cmd.Args[i] != "--" {
				i++
			}
			cmd.Args = append(append(append([]string{}, cmd.Args[:i+1]...), wrapper...), cmd.Args[i+1:]...)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			return lab.Outcome{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
		}
		o := as(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
		eq(t, "exit code without privileges", o.Code, 1)
		oneLine(t, o, "root")
		o = as(t, "unshare", "--mount", "sh", "-c", `umount -l /sys/fs/bpf && exec "$@"`, "sh")
		eq(t, "exit code without bpffs", o.Code, 1)
		oneLine(t, o, "bpffs", "mount -t bpf bpf /sys/fs/bpf")
		eq(t, "hooks in use", len(hooks(t, s)), 0)

		o = as(t, "unshare", "--mount", "sh", "-c",
			`for m in $(awk '$3 == "cgroup2" {print $2}' /proc/mounts); do umount -l $m; done; exec "$@"`, "sh")
		eq(t, "exit code without control groups", o.Code, 0)
		s.Watch()
		if p := strings.Join(s.Status(t).Problems, "; "); !strings.Contains(p, "cgroup") {
			t.Errorf("problems without control groups: %q", p)
		}
		web := s.Run(t, "web", "-p", "8080:80")
		eq(t, "from outside", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8080)).Local, web.At(80))
		s.Ebpfnet(t, "detach", "--all", "--yes")

		// Without Docker, endpoints have no container's name, and all else works.
		s.Attach(t, append(docker0(), "--docker-host", "unix:///nonexistent.sock")...)
		e := s.Endpoint(t, web.IP)
		eq(t, "container's name without Docker", e.Container, "")
		s.Publish(t, "8090:80", web.IP.String())
		eq(t, "from outside, without Docker", s.Remote.Ask(t, "tcp", lab.At(lab.HostIP, 8090)).Name, "web")
	})
}
