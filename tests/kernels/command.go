package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// command is how a program is run: its folder, and what its environment has beside ours.
type command struct {
	dir string
	env []string
}

// output runs a program to its end and gives what it prints; what it complains of is in the error.
func (c command) output(name string, args ...string) ([]byte, error) {
	var complaint bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}

// output runs a program here, with our environment.
func output(name string, args ...string) ([]byte, error) { return command{}.output(name, args...) }
