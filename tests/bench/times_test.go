package bench

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// Timed is how often something was done by a peer, how long it took each time, in seconds, and what was there then.
type Timed struct {
	What    string    `json:"what"`
	Peer    string    `json:"peer"`
	Seconds []float64 `json:"seconds"`
}

// used is the memory that a peer needs for n published ports.
type used struct {
	Peer      string `json:"peer"`
	Ports     int    `json:"ports"`
	Processes int    `json:"processes"` // that carry packets, or say how
	Resident  int64  `json:"resident"`  // theirs, in bytes
	Maps      int64  `json:"maps"`      // in the kernel, in bytes
}

// dockerPatience is for how many seconds a command of Docker's is waited for.
const dockerPatience = 60

// TestTimes measures what is done by the one who runs the host: ports are published, containers start, and answer.
func TestTimes(t *testing.T) {
	suite.Require(t)
	many, more := 10, 20
	if *full {
		many, more = 1_000, 10_000
	}
	var all []Timed
	var memory []used
	add := func(what, peer string, seconds ...float64) {
		all = append(all, Timed{what, peer, seconds})
	}
	hosts := []struct {
		name   string
		world  lab.World
		flags  []string
		attach bool
	}{
		{"docker", lab.Default, nil, false},
		{"docker, no proxy", lab.Default, []string{"--userland-proxy=false"}, false},
		{"ebpfnet", lab.Native, nil, true},
	}
	for _, on := range hosts {
		h := suite.NewHost(t, on.world, on.flags...)
		c := h.Run(t, "c")
		var in *lab.Instance
		if on.attach {
			in = h.Instance(t)
			in.Attach(t, "--bridge", lab.Bridge)
			in.Await(t, c)
			for _, n := range []int{1, many, more} {
				var took []float64
				for range min(*rounds, 5) {
					took = append(took, seconds(func() { in.Run(t, "publish", portRange(n), c.Name) }))
					if n == more && len(took) == 1 {
						memory = append(memory, agentMemory(t, in, n))
					}
					in.Run(t, "unpublish", strings.SplitN(portRange(n), ":", 2)[0]+"/tcp")
				}
				add(fmt.Sprintf("publish %d ports of a running container", n), on.name, took...)
			}
		}
		for _, n := range []int{1, many} {
			var start, stop []float64
			for i := range min(*rounds, 2) {
				var c *lab.Container
				start = append(start, seconds(func() { c = h.Run(t, "p", "--publish", strings.TrimSuffix(portRange(n), "/tcp")) }))
				if i == 0 && n == many && !on.attach {
					memory = append(memory, proxyMemory(t, h, on.name, n))
				}
				stop = append(stop, seconds(func() { c.Remove(t) }))
			}
			add(fmt.Sprintf("start a container that publishes %d ports", n), on.name, start...)
			removed := fmt.Sprintf("remove it (%d ports)", n)
			if slices.Max(stop) >= dockerPatience {
				removed += ", not over by then"
			}
			add(removed, on.name, stop...)
		}
		add("first answer of a published port after the container's start", on.name, firstAnswers(t, h, 3**rounds)...)
		if on.attach {
			crowd(t, h, many)
			awaitEndpoints(t, in, many)
			var on, off []float64
			for range min(*rounds, 5) {
				off = append(off, seconds(func() { in.Run(t, "detach", "--bridge", lab.Bridge) }))
				on = append(on, seconds(func() { in.Attach(t, "--bridge", lab.Bridge) }))
			}
			add(fmt.Sprintf("attach to a bridge with %d endpoints", many), "ebpfnet", on...)
			add(fmt.Sprintf("detach from it (%d endpoints)", many), "ebpfnet", off...)
		}
	}
	all = append(all, startWithMany(t, more))
	table := timesTable(all, memory)
	fmt.Print(table)
	if *results != "" {
		keep(t, "times.json", marshal(t, struct {
			Times  []Timed `json:"times"`
			Memory []used  `json:"memory"`
		}{all, memory}))
		keep(t, "times.md", []byte(table))
	}
}

// startWithMany starts a container that publishes so many ports, with Docker's rules and without its proxies, which take longer and more memory than
// there is. It is waited for only so long.
func startWithMany(t *testing.T, ports int) Timed {
	t.Helper()
	h := suite.NewHost(t, lab.Default, "--userland-proxy=false")
	var err error
	took := seconds(func() {
		_, err = h.TryDocker("run", "--detach", "--publish", strings.TrimSuffix(portRange(ports), "/tcp"), lab.Image, "/bin/probe", "serve", "-name", "many")
	})
	what := fmt.Sprintf("start a container that publishes %d ports", ports)
	switch {
	case err == nil:
	case took >= dockerPatience:
		what += ", not over by then"
		h.KillDocker(t) // nor would it be soon
	default:
		t.Fatal(err)
	}
	return Timed{what, "docker, no proxy", []float64{took}}
}

func seconds(do func()) float64 {
	begun := time.Now()
	do()
	return time.Since(begun).Seconds()
}

// firstAnswers starts a container that publishes a port so many times, and gives the seconds from each start, as dockerd tells it, to the
// first answer that a client outside has. The client asks once in a millisecond, each time as somebody new.
func firstAnswers(t *testing.T, h *lab.Host, times int) []float64 {
	t.Helper()
	c := h.Run(t, "late", "--publish", "8080:80/udp")
	var took []float64
	for range times {
		c.Stop(t)
		answered := make(chan time.Time, 1)
		stop := make(chan struct{})
		asked := make(chan error, 1)
		go func() {
			asked <- h.Router.Do(func() error { return askUntil(lab.At(lab.HostIP, 8080), answered, stop) })
		}()
		c.Start(t)
		began, err := time.Parse(time.RFC3339Nano, h.Docker(t, "inspect", "--format", "{{.State.StartedAt}}", c.ID))
		if err != nil {
			t.Fatal(err)
		}
		select {
		case at := <-answered:
			took = append(took, at.Sub(began).Seconds())
		case <-time.After(lab.Patience):
			t.Errorf("no answer from %s", c.Name)
		}
		close(stop)
		if err := <-asked; err != nil {
			t.Fatal(err)
		}
	}
	return took
}

// askUntil asks over UDP from one port after the other, and tells when the first answer came.
func askUntil(to string, answered chan<- time.Time, stop <-chan struct{}) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		open = append(open, c)
		if _, err := c.Write([]byte("?")); err != nil {
			continue // nobody is there yet
		}
		go func() {
			if _, err := c.Read(make([]byte, 2048)); err == nil {
				select {
				case answered <- time.Now():
				default:
				}
			}
		}()
		if len(open) == 5_000 {
			return fmt.Errorf("5,000 questions to %s have no answer", to)
		}
	}
}

// agentMemory is what the agent and its maps take.
func agentMemory(t *testing.T, in *lab.Instance, n int) used {
	t.Helper()
	pid := in.Status(t).Agent.PID
	u := used{Peer: "ebpfnet", Ports: n, Processes: 1, Resident: resident(t, pid)}
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range infos {
		f := fields(path)
		if id := f["map_id"]; id != "" && !seen[id] {
			seen[id] = true
			bytes, _ := strconv.ParseInt(f["memlock"], 10, 64)
			u.Maps += bytes
		}
	}
	return u
}

// proxyMemory is what a host's proxies take.
func proxyMemory(t *testing.T, h *lab.Host, peer string, n int) used {
	t.Helper()
	u := used{Peer: peer, Ports: n}
	own, err := os.Stat(h.NS.Path())
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(b)) != "docker-proxy" {
			continue
		}
		ns, err := os.Stat(filepath.Join(filepath.Dir(name), "ns/net"))
		if err != nil || !os.SameFile(ns, own) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		u.Processes++
		u.Resident += resident(t, pid)
	}
	return u
}

// resident is the memory that a process alone has, in bytes (proc(5), smaps_rollup).
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	f := fields(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	clean, _ := strconv.ParseInt(f["Private_Clean"], 10, 64)
	dirty, _ := strconv.ParseInt(f["Private_Dirty"], 10, 64)
	return (clean + dirty) << 10
}

// fields reads a file of "name: value" lines, of which the first word of the value counts.
func fields(path string) map[string]string {
	all := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return all
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if words := strings.Fields(value); len(words) > 0 {
			all[name] = words[0]
		}
	}
	return all
}

// timesTable writes both as Markdown.
func timesTable(all []Timed, memory []used) string {
	var b strings.Builder
	b.WriteString("| what | peer | median s | least s | most s |\n| --- | --- | ---: | ---: | ---: |\n")
	for _, r := range all {
		sorted := slices.Sorted(slices.Values(r.Seconds))
		if len(sorted) > 0 {
			fmt.Fprintf(&b, "| %s | %s | %.3g | %.3g | %.3g |\n", r.What, r.Peer, sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1])
		}
	}
	b.WriteString("\n| peer | ports | processes | their own memory MiB | maps MiB |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, u := range memory {
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f | %.1f |\n", u.Peer, u.Ports, u.Processes, float64(u.Resident)/(1<<20), float64(u.Maps)/(1<<20))
	}
	return b.String()
}
