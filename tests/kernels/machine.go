package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// outcome is what came out of a kernel's machine.
type outcome struct {
	kernel  kernel
	version string // of the package
	console string // file with what the machine printed
	results []step.Result
	code    int
	ended   bool     // with RC=
	left    []string // steps that nobody asked for
	part    []string // steps of which nobody asked for all
	err     error
}

// machine is one boot.
type machine struct {
	kernel, initramfs, console string // files; console is written
	memory                     int    // MiB
	skip, tests, less          string // steps to leave out, tests to run, and those among them not to run
	noVRF                      bool
}

// run boots the machine and reads its results until it ends. seen is called with each as it comes.
func (m machine) run(ctx context.Context, seen func(step.Result)) (results []step.Result, code int, ended bool, err error) {
	noVRF := "0"
	if m.noVRF {
		noVRF = "1"
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(m.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:"+m.console, // ttyS0: the kernel, and what the tests print
		"-serial", "stdio", // ttyS1: the results
		"-kernel", m.kernel, "-initrd", m.initramfs,
		"-append", "console=ttyS0 loglevel=5 panic=-1 random.trust_cpu=on "+
			step.SkipEnv+"="+m.skip+" "+step.RunEnv+"="+m.tests+" "+step.LessEnv+"="+m.less+" "+step.NoVRFEnv+"="+noVRF)
	cmd.Stdin = nil
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, false, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, false, fmt.Errorf("start qemu: %w", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if r, ok := step.ParseResult(lines.Text()); ok {
			results = append(results, r)
			seen(r)
		}
		if c, ok := step.ParseEnd(lines.Text()); ok {
			code, ended = c, true
		}
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return results, code, ended, errors.New("out of time")
	case err != nil:
		return results, code, ended, fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return results, code, ended, nil
}

// troubles are the kernel's own complaints in what the machine printed, each with the lines after it.
func troubles(console string) ([]string, error) {
	text, err := os.ReadFile(console)
	if err != nil {
		return nil, err
	}
	var found []string
	lines := strings.Split(strings.ReplaceAll(string(text), "\r", ""), "\n")
	for i, line := range lines {
		if complains(line) {
			found = append(found, strings.Join(lines[i:min(i+12, len(lines))], "\n"))
		}
	}
	return found, nil
}

func complains(line string) bool {
	if !strings.HasPrefix(line, "[") { // the kernel's lines begin with their time
		return false
	}
	for _, sign := range []string{"WARNING:", "BUG:", "Oops:", "general protection fault", "Kernel panic", "unregister_netdevice: waiting"} {
		if strings.Contains(line, sign) {
			return true
		}
	}
	return false
}
