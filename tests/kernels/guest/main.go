// Command guest is the init of the machines that command kernels boots. As process 1 it mounts, loads the modules, starts itself once more,
// takes over orphans until that has ended, and restarts the machine, which ends it. The second process takes the steps.
//
// Results go to the second serial line, everything else to the first.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

const resultsLine = "/dev/ttyS1"

func main() {
	if os.Getpid() != 1 {
		os.Exit(takeSteps())
	}
	code, err := first()
	if err != nil {
		fmt.Println("guest:", err)
		say(step.Result{Step: step.Boots, Detail: err.Error()}.String())
		code = 1
	}
	say(step.End(code))
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println("guest: restart:", err)
	}
}

// first is what process 1 does before the machine ends.
func first() (int, error) {
	if err := mountAll(); err != nil {
		return 0, err
	}
	n, err := loadModules("/modules")
	if err != nil {
		return 0, err
	}
	if err := loopbackUp(); err != nil {
		return 0, fmt.Errorf("set lo up: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return 0, err
	}
	say(step.Result{Step: step.Boots, OK: true, Detail: fmt.Sprintf("%s, %d modules", unix.ByteSliceToString(uts.Release[:]), n)}.String())

	cmd := exec.Command("/init")
	cmd.Env = []string{"PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "CI=true"}
	for _, name := range []string{step.SkipEnv, step.RunEnv, step.LessEnv, step.NoVRFEnv} {
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return reap(cmd.Process.Pid)
}

// reap waits for a child, and for everybody's orphans on the way: what `detach` stopped is to be gone, not a zombie.
func reap(child int) (int, error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == child && status.Exited():
			return status.ExitStatus(), nil
		case pid == child && status.Signaled():
			return 0, fmt.Errorf("the steps ended by signal %v", status.Signal())
		}
	}
}

func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"},
		{"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}

// loadModules loads the modules in the order of their file names. One that the kernel has already, or refuses for lack of something of its
// own, is no reason to stop.
func loadModules(dir string) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return 0, err
	}
	slices.Sort(files)
	loaded := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return loaded, err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			fmt.Printf("guest: load module %s: %v\n", filepath.Base(file), err)
			continue
		}
		loaded++
	}
	return loaded, nil
}

// say writes a line to the results.
func say(line string) {
	f, err := os.OpenFile(resultsLine, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}
