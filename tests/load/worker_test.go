package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// A process may have some ten thousand sockets, whatever root it is: the crowd is made of several. Each is this test program once more, in
// the network namespace that it belongs to. It does one order a line and answers with one line, "ok ..." or what went wrong.

// roleEnv says which part a process plays.
const (
	roleEnv = "EBPFNET_LOAD_ROLE"
	asks    = "asks"
	answers = "answers"
)

// perProcess is how many connections a process has at most.
const perProcess = 15_000

// work is a part's life: until its orders end.
func work(role string, in io.Reader, out io.Writer) int {
	var c crowd
	var s server
	orders := bufio.NewScanner(in)
	for orders.Scan() {
		words := strings.Fields(orders.Text())
		var err error
		switch {
		case role == answers && words[0] == "listen":
			err = s.listen(words[1:])
		case role == asks && words[0] == "open":
			err = c.open(words[1:])
		case role == asks && words[0] == "ask":
			err = c.ask(words[1:])
		default:
			err = fmt.Errorf("order %q for a part that %s", words[0], role)
		}
		if err != nil {
			fmt.Fprintln(out, strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		fmt.Fprintln(out, "ok")
	}
	c.close()
	s.close()
	return 0
}

// part is a process of the crowd.
type part struct {
	name   string
	cmd    *exec.Cmd
	orders io.WriteCloser
	lines  *bufio.Reader
}

// start runs a part in a namespace until the test ends.
func start(t *testing.T, ns *lab.Netns, role string) *part {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: role + " in " + ns.Name, cmd: ns.Command(ctx, os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, "GOMAXPROCS=2")
	p.cmd.Stderr = os.Stderr
	orders, err := p.cmd.StdinPipe()
	if err == nil {
		p.orders = orders
		var lines io.Reader
		if lines, err = p.cmd.StdoutPipe(); err == nil {
			p.lines = bufio.NewReader(lines)
			err = p.cmd.Start()
		}
	}
	if err != nil {
		cancel()
		t.Fatalf("start what %s: %v", p.name, err)
	}
	t.Cleanup(func() {
		orders.Close() // it closes its connections then
		p.cmd.Wait()
		cancel()
	})
	return p
}

// order tells a part to do something, and gives what came of it.
func (p *part) order(format string, args ...any) error {
	if _, err := fmt.Fprintf(p.orders, format+"\n", args...); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	line, err := p.lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return fmt.Errorf("%s: %s", p.name, line)
	}
	return nil
}

// all gives every part the same kind of order, at the same time.
func all(parts []*part, order func(i int, p *part) error) error {
	errs := make(chan error, len(parts))
	for i, p := range parts {
		go func() { errs <- order(i, p) }()
	}
	var first error
	for range parts {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
