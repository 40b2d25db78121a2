// Command ebpfnet puts an eBPF datapath under the containers of a Docker host, and looks after it.
//
// One file per subcommand. The invariant: commands ask and print; what they ask for is done by the agent, except where none can be there
// (starting one, `detach --all` after a crash, `doctor`). Exit codes: 0 done, 1 failed, 2 wrong usage; a failure is one line on standard
// error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ebpfnet/ebpfnet/agent/client"
)

func main() {
	// The signals are never given back: one more of them, while a command or the agent goes down, must not make a death of a clean end.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	root := newRoot(&app{stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	message := strings.TrimSpace(err.Error())
	// Cobra's own complaint about an unknown command spreads suggestions over several lines.
	message, _, _ = strings.Cut(message, "\n\n")
	message = strings.ReplaceAll(message, "\n", "; ")
	fmt.Fprintf(stderr, "%s: %s\n", cmd.CommandPath(), message)
	if isUsage(err) {
		return 2
	}
	return 1
}

// usageError is an error of whoever typed the command.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func (e usageError) Unwrap() error { return e.error }

func isUsage(err error) bool {
	var u usageError
	if errors.As(err, &u) {
		return true
	}
	var r *client.RequestError
	return errors.As(err, &r) && r.Usage
}
