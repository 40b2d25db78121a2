package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReadyFD is the descriptor on which an agent that StartBackground started hands over its readiness.
const ReadyFD = 3

// startTimeout is how long an agent may take from its start to its readiness: reading the kernel's types alone is a good part of a second
// on a slow machine.
const startTimeout = 2 * time.Minute

// StartBackground runs this program again, with args, as an agent of its own session whose output goes to the log file, and waits until it
// is ready. An agent that fails gives its own error. The arguments must say `--ready-fd 3` (see ReadyFD).
func StartBackground(ctx context.Context, args []string, logPath string) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("start agent: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(logPath), 0o755); err != nil {
		return 0, fmt.Errorf("start agent: make log folder: %w", err)
	}
	_, statErr := os.Stat(logPath)
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return 0, fmt.Errorf("start agent: open log: %w", err)
	}
	defer log.Close()
	defer func() {
		// An agent that did not start leaves no log behind that was not there before; its error is told here.
		if err != nil && errors.Is(statErr, os.ErrNotExist) {
			removeLog(logPath)
		}
	}()
	read, write, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start agent: %w", err)
	}
	defer read.Close()
	cmd := exec.Command(self, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/"
	cmd.Env = withoutServiceManager(os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{write} // becomes ReadyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return 0, fmt.Errorf("start agent: %w", err)
	}
	if err := awaitReady(ctx, read); err != nil {
		// It has said that it ends, or it hangs.
		if errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			cmd.Process.Kill()
		}
		cmd.Wait()
		return 0, err
	}
	pid = cmd.Process.Pid // Release forgets it
	return pid, cmd.Process.Release()
}

// awaitReady reads the one line that a starting agent writes: "ready", or what went wrong.
func awaitReady(ctx context.Context, r *os.File) error {
	if err := r.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(r).ReadString('\n')
	line = strings.TrimSpace(line)
	switch {
	case line == "ready":
		return nil
	case line != "":
		return errors.New(line)
	case ctx.Err() != nil:
		return fmt.Errorf("start agent: %w", ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("start agent: it was not ready within %v: %w", startTimeout, err)
	case errors.Is(err, io.EOF):
		return errors.New("start agent: it ended without a word; `ebpfnet agent` in the foreground shows more")
	}
	return fmt.Errorf("start agent: %w", err)
}

// withoutServiceManager drops what ties a process to a systemd unit: the new agent is not that unit's main process.
func withoutServiceManager(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if name != "NOTIFY_SOCKET" && name != "WATCHDOG_USEC" && name != "WATCHDOG_PID" {
			kept = append(kept, e)
		}
	}
	return kept
}

// Readiness is the agent's end of the pipe. A nil one tells nobody.
type Readiness struct{ file *os.File }

// OpenReadiness takes over the descriptor that StartBackground passed; 0 stands for none.
func OpenReadiness(fd int) (*Readiness, error) {
	if fd == 0 {
		return nil, nil
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	return &Readiness{os.NewFile(uintptr(fd), "ready")}, nil
}

// Done says that the agent is ready, or with what error it ends. Only the first call counts.
func (r *Readiness) Done(err error) {
	if r == nil || r.file == nil {
		return
	}
	line := "ready"
	if err != nil {
		line = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	fmt.Fprintln(r.file, line)
	r.file.Close()
	r.file = nil
}

func removeLog(path string) {
	os.Remove(path)
	removeEmpty(filepath.Dir(path))
}

// Alive tells whether a process runs. One that has ended and that nobody has waited for does not.
func Alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows the name, which may hold anything, parentheses too (proc(5)).
	_, after, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return ok && !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}
