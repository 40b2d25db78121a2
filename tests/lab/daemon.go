package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// daemon is a program that runs until it is stopped.
type daemon struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startDaemon starts a program inside the namespace; what it says goes to the log. It ends when this process is killed.
func startDaemon(l *ledger, ns *Netns, log, name string, args ...string) (*daemon, error) {
	return startCommand(l, ns.Command(context.Background(), name, args...), log, name)
}

func startCommand(l *ledger, cmd *exec.Cmd, log, name string) (*daemon, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.process(cmd.Process.Pid, name)
	d := &daemon{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// exited is nil while the daemon runs, and says what its log ends with once it does not.
func (d *daemon) exited() error {
	select {
	case <-d.done:
		log, _ := os.ReadFile(d.log)
		return fmt.Errorf("%s: %s\n%s", d.name, d.cmd.ProcessState, log[max(0, len(log)-2000):])
	default:
		return nil
	}
}

// stop asks the daemon to end, and kills it where it does not.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", d.name, err)
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(20 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.done
		return fmt.Errorf("stop %s: killed after 20 s", d.name)
	}
}

// kill ends the daemon without a word.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", d.name, err)
	}
	<-d.done
	return nil
}
