package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// sweep removes what an earlier test process left that was killed before it could clean up. Its daemons have ended with it.
func sweep() error {
	owner := regexp.MustCompile(`^ebl-(\d+)-`)
	dead := func(path string) bool {
		m := owner.FindStringSubmatch(filepath.Base(path))
		if m == nil {
			return false
		}
		pid, err := strconv.Atoi(m[1])
		return err == nil && !Alive(pid)
	}
	var errs []error
	mounts, err := os.ReadFile("/proc/self/mounts")
	errs = append(errs, err)
	for line := range strings.Lines(string(mounts)) {
		point := strings.Fields(line)[1]
		rest, inTemp := strings.CutPrefix(point, filepath.Clean(os.TempDir())+"/")
		if top, _, _ := strings.Cut(rest, "/"); inTemp && dead(top) {
			errs = append(errs, syscall.Unmount(point, syscall.MNT_DETACH))
		}
	}
	remove := map[string]func(string) error{
		"/run/netns/ebl-*": func(path string) error {
			if out, err := exec.Command("ip", "netns", "delete", filepath.Base(path)).CombinedOutput(); err != nil {
				return fmt.Errorf("delete namespace %s: %w: %s", path, err, out)
			}
			return nil
		},
		filepath.Join(os.TempDir(), "ebl-*"): os.RemoveAll,
		"/sys/fs/cgroup/ebl-*":               removeCgroup,
		"/sys/fs/cgroup/*/ebl-*":             removeCgroup,
	}
	for pattern, rm := range remove {
		found, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range found {
			if dead(path) {
				errs = append(errs, rm(path))
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroup leaves a group alone that has processes yet: containers outlive a test process that was killed, and stand in nobody's way.
func removeCgroup(path string) error {
	if err := syscall.Rmdir(path); !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOENT) { // or another test's sweep was here
		return err
	}
	return nil
}
