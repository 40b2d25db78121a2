package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// ledger holds what must be gone at the end.
type ledger struct {
	mu        sync.Mutex
	processes map[int]string // pid: what it is and when it started
	instances map[string]bool
}

// process notes a process that the suite, or the product for it, has started.
func (l *ledger) process(pid int, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.processes == nil {
		l.processes = map[int]string{}
	}
	l.processes[pid] = what + " " + startTime(pid)
}

// instance notes a name that the product was run under.
func (l *ledger) instance(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.instances == nil {
		l.instances = map[string]bool{}
	}
	l.instances[name] = true
}

// leaks looks for what the suite's tests left on the machine: processes, namespaces, mounts, control groups and the product's files.
func (s *Suite) leaks() error {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	var errs []error
	for pid, what := range s.ledger.processes {
		if Alive(pid) && strings.HasSuffix(what, " "+startTime(pid)) {
			errs = append(errs, fmt.Errorf("left behind: process %d (%s)", pid, what))
		}
	}
	for name := range s.ledger.instances {
		for _, path := range Files(name) {
			if _, err := os.Lstat(path); err == nil {
				errs = append(errs, fmt.Errorf("left behind: %s", path))
			}
		}
	}
	patterns := []string{"/run/netns/" + s.prefix + "-*", "/sys/fs/cgroup/" + s.prefix + "-*", "/sys/fs/cgroup/*/" + s.prefix + "-*"}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			errs = append(errs, err)
		}
		for _, path := range found {
			errs = append(errs, fmt.Errorf("left behind: %s", path))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		errs = append(errs, err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, s.prefix+"-") {
			errs = append(errs, fmt.Errorf("left behind: mount %s", strings.TrimSpace(line)))
		}
	}
	return errors.Join(errs...)
}

// Files are the paths that an instance of the product may make, and that must be gone after `detach --all`.
func Files(instance string) []string {
	return []string{
		"/sys/fs/bpf/ebpfnet/" + instance,
		"/var/lib/ebpfnet/" + instance,
		SocketOf(instance),
		"/run/ebpfnet/" + instance + ".lock",
		"/run/ebpfnet/" + instance + ".docker",
		"/run/ebpfnet/" + instance + ".session",
		"/var/log/ebpfnet/" + instance + ".log",
	}
}

// SocketOf is where an instance's agent listens.
func SocketOf(instance string) string { return "/run/ebpfnet/" + instance + ".sock" }

// Alive tells whether a process runs; one that nobody has waited for does not.
func Alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// startTime tells a process from a later one with its id: field 22 of /proc/PID/stat (proc(5)).
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}
