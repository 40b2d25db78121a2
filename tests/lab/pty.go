package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Pty is a terminal without a screen: what a program draws on it is kept.
type Pty struct {
	ours, theirs *os.File

	mu  sync.Mutex
	out strings.Builder
}

// StartOnTerminal starts a program on a terminal of that size, which is its controlling one.
func StartOnTerminal(t testing.TB, cmd *exec.Cmd, rows, columns uint16) *Pty {
	t.Helper()
	p := &Pty{}
	var err error
	if p.ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.ours.Close() })
	fd := int(p.ours.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err == nil {
		p.theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatalf("make a terminal: %v", err)
	}
	t.Cleanup(func() { p.theirs.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.theirs, p.theirs, p.theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := p.ours.Read(b)
			p.mu.Lock()
			p.out.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// Type presses keys.
func (p *Pty) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := p.ours.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// Drawn is all that was drawn so far.
func (p *Pty) Drawn() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Settings are the terminal's, as the program has left them.
func (p *Pty) Settings(t testing.TB) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(p.theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}
