package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// inventory is all that a soak must find again in the end: pins, programs on hooks, programs that use the instance's maps, entries of the
// maps that the agent writes, and the host's own settings.
func (k *soak) inventory(t *testing.T) []string {
	t.Helper()
	facts := snapshot(t, k.site)
	root := lab.Files(k.Name)[0]
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		facts = append(facts, "pin: "+strings.TrimPrefix(path, root))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// An agent counts them from time to time.
	var m lab.Metrics
	lab.Eventually(t, 10*lab.Patience, func() error {
		m = k.Scrape(t)
		if counted, there := m[`ebpfnet_map_entries{map="endpoints4"}`], len(k.Endpoints(t)); int(counted) != there {
			return fmt.Errorf("%v endpoints are counted, of %d", counted, there)
		}
		if counted, there := m[`ebpfnet_map_entries{map="publish4"}`], len(k.Ports(t)); (counted > 0) != (there > 0) {
			return fmt.Errorf("%v published ports are counted, of %d", counted, there)
		}
		return nil
	})
	// What the programs enter gives way to what is newer; it need not be gone.
	byPrograms := regexp.MustCompile(`map="(flows|frags|socks)`)
	for sample, v := range m {
		if name, _, _ := strings.Cut(sample, "{"); name == "ebpfnet_map_entries" && !byPrograms.MatchString(sample) {
			facts = append(facts, fmt.Sprintf("entries: %s %g", sample, v))
		}
	}
	return append(facts, fmt.Sprintf("programs: %d", len(k.programs(t))))
}

// programs are the ids of the programs that use the instance's flow table, attached or not. Other instances on the machine have their own.
func (k *soak) programs(t *testing.T) (found []ebpf.ProgramID) {
	t.Helper()
	pins, err := filepath.Glob(lab.Files(k.Name)[0] + "/v*/maps/flows4")
	if err != nil || len(pins) != 1 {
		t.Fatalf("pinned flow tables: %v, %v", pins, err)
	}
	flows, err := ebpf.LoadPinnedMap(pins[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer flows.Close()
	info, err := flows.Info()
	if err != nil {
		t.Fatal(err)
	}
	own, _ := info.ID()
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone by now
		}
		if info, err := p.Info(); err == nil {
			if maps, ok := info.MapIDs(); ok && slices.Contains(maps, own) {
				found = append(found, id)
			}
		}
		p.Close()
	}
	return found
}

// compare waits until the inventory is what it was.
func (k *soak) compare(t *testing.T, before []string) {
	t.Helper()
	end := time.Now().Add(3 * lab.Patience)
	for {
		diff := difference(before, k.inventory(t))
		if len(diff) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left behind (+) or lost (-):\n%s", strings.Join(diff, "\n"))
			return
		}
		pace(100 * time.Millisecond)
	}
}

// size is what an agent takes of the machine.
type size struct {
	pid, goroutines, files int
	heap                   float64 // MiB, of what is in use after a collection, or a little more
}

func (s size) String() string {
	return fmt.Sprintf("pid %d, %d goroutines, %d files, %.1f MiB of heap", s.pid, s.goroutines, s.files, s.heap)
}

// agentSize is the smallest of some looks at the agent: what it is at, or has not collected yet, is not what it keeps.
func (k *soak) agentSize(t *testing.T) size {
	t.Helper()
	var least size
	for i := range 10 {
		m := k.Scrape(t)
		s := size{
			pid: k.Status(t).Agent.PID, goroutines: int(m.Sum("go_goroutines")), files: int(m.Sum("process_open_fds")),
			heap: m.Sum("go_memstats_heap_alloc_bytes") / (1 << 20),
		}
		if i == 0 {
			least = s
		}
		least = size{s.pid, min(least.goroutines, s.goroutines), min(least.files, s.files), min(least.heap, s.heap)}
		pace(200 * time.Millisecond)
	}
	return least
}

// compare fails the test where an agent has grown since it was young.
func (s size) compare(t *testing.T, young size) {
	t.Helper()
	eq(t, "the agent's process", s.pid, young.pid)
	if s.goroutines > young.goroutines+8 || s.files > young.files+8 || s.heap > 2*young.heap+8 {
		t.Errorf("the agent has grown: %v, was %v", s, young)
	}
}

// watchKernel notes where the kernel's log ends, and gives a function that fails the test with what the kernel has complained of since.
func watchKernel(t *testing.T) func(*testing.T) {
	t.Helper()
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	fd := int(log.Fd())
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		t.Helper()
		buf := make([]byte, 16<<10)
		for {
			n, err := unix.Read(fd, buf)
			if err == unix.EPIPE {
				continue // lines were lost between two reads
			}
			if err != nil {
				return // there is no more
			}
			line := string(buf[:n])
			for _, sign := range []string{
				"WARNING:", "BUG:", "Oops", "general protection", "refcount", "unregister_netdevice: waiting", "hw csum failure", "rcu: INFO", "hung task",
			} {
				if strings.Contains(line, sign) {
					t.Errorf("the kernel says: %s", line)
				}
			}
		}
	}
}
