package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is held by the one process that may change an instance's datapath. The kernel lets go of it when the process ends, however it ends.
type Lock struct {
	file *os.File
	path string
}

// HeldError says that another process has the lock. PID is 0 where the holder has not written it yet.
type HeldError struct{ PID int }

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another agent of this instance is starting or stopping"
	}
	return fmt.Sprintf("another agent of this instance runs already (pid %d)", e.PID)
}

// AcquireLock takes the lock at path, making the file and its folder where they are missing. It fails with a *HeldError at once where
// another process has it.
func AcquireLock(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the lock's folder: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				pid := lockHolder(path)
				if pid != 0 && ending(pid) {
					f.Close()
					time.Sleep(lockPause)
					continue
				}
				return nil, &HeldError{PID: pid}
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// A holder that left removed the file, perhaps between our open and our lock: then what we hold is a file without a name, and the
		// next process would lock another one.
		if !sameFile(f, path) {
			f.Close()
			continue
		}
		l := &Lock{file: f, path: path}
		if err := l.writePID(); err != nil {
			l.Release()
			return nil, err
		}
		return l, nil
	}
}

// lockPause is how long to wait for a holder that is ending already.
const lockPause = 5 * time.Millisecond

// exitingFlag is PF_EXITING of include/linux/sched.h: the kernel is taking the process down, and its lock with it.
const exitingFlag = 0x4

// ending tells whether a process is gone, or cannot but be gone in a moment.
func ending(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// Behind the name, which may hold anything: state, ppid, pgrp, session, tty_nr, tpgid, flags (proc_pid_stat(5)).
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&exitingFlag != 0
}

func (l *Lock) writePID() error {
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// Release removes the file and lets the lock go.
func (l *Lock) Release() {
	if l == nil || l.file == nil {
		return
	}
	os.Remove(l.path)
	l.file.Close()
	l.file = nil
}

func sameFile(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}

// lockHolder reads the pid from a lock file that another process holds. It writes it right after taking the lock, so an empty file is
// read again for a moment.
func lockHolder(path string) int {
	for deadline := time.Now().Add(100 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if pid, perr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && perr == nil {
			return pid
		}
		if err != nil || time.Now().After(deadline) {
			return 0
		}
	}
}
