package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/loader"
)

// requestTimeout is how long a request may take. The agent answers when what was asked for is in force.
const requestTimeout = 2 * time.Minute

// app is what the global flags say, and where the output goes.
type app struct {
	instance   string
	output     string
	dockerHost string
	verbose    bool

	stdin          *os.File
	stdout, stderr io.Writer
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ebpfnet",
		Short: "An eBPF datapath for the containers of a plain Docker host",
		Long: `ebpfnet carries the traffic of a Docker host's containers in eBPF programs on their veths, their bridge and the uplinks.

Start with 'ebpfnet doctor', then 'ebpfnet attach --bridge docker0'. 'ebpfnet detach --all' leaves the host as it was.`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       unknownCommand,
		RunE:                       groupOnly,
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.check() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w (see `%s --help`)", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.instance, "instance", envOr("EBPFNET_INSTANCE", loader.DefaultInstance),
		"which of several datapaths on one machine (env EBPFNET_INSTANCE)")
	flags.StringVarP(&a.output, "output", "o", "table", "table or json")
	flags.StringVar(&a.dockerHost, "docker-host", os.Getenv("DOCKER_HOST"),
		"where Docker listens, for the agent and for doctor (env DOCKER_HOST)")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	root.AddCommand(
		newAttach(a), newDetach(a), newStatus(a), newEndpoint(a), newPublish(a), newUnpublish(a), newPort(a), newFlow(a), newPeer(a), newPolicy(a), newTop(a), newMonitor(a), newTrace(a),
		newDoctor(a), newAgent(a), newVersion(a),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = unknownCommand, groupOnly
		}
	}
	return root
}

func (a *app) check() error {
	if err := loader.ValidateInstance(a.instance); err != nil {
		return usageError{err}
	}
	if a.output != "table" && a.output != "json" {
		return usagef("-o %s: it is table or json", a.output)
	}
	return nil
}

func (a *app) paths() loader.Paths { return loader.PathsFor(a.instance) }

func (a *app) client() *client.Client { return client.New(a.paths().Socket) }

// ask makes a request of the agent and explains why there is nobody to ask.
func (a *app) ask(ctx context.Context, request func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.explain(request(ctx, a.client()))
}

// explain says why there is nobody to ask.
func (a *app) explain(err error) error {
	switch {
	case errors.Is(err, client.ErrNoAgent):
		return fmt.Errorf("no agent runs for instance %s: `%s` starts one", a.instance, a.commandLine("attach --bridge docker0"))
	case errors.Is(err, client.ErrForbidden):
		return errNeedsRoot
	}
	return err
}

var errNeedsRoot = errors.New("needs root (or CAP_BPF and CAP_NET_ADMIN in a user that may write the agent's folders)")

// commandLine is how the user would call a command for the same instance.
func (a *app) commandLine(command string) string {
	if a.instance == loader.DefaultInstance {
		return "ebpfnet " + command
	}
	return "ebpfnet --instance " + a.instance + " " + command
}

// unknownCommand takes no arguments: what stands where a subcommand should is not one.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usagef("unknown command %q%s (see `%s --help`)", args[0], hint, cmd.CommandPath())
}

// groupOnly is what a command does that is there for its subcommands.
func groupOnly(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usagef("which command? %s (see `%s --help`)", strings.Join(names, ", "), cmd.CommandPath())
}

// takes is a check for the number of arguments, whose names it knows.
func takes(min int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < min:
			return usagef("%s is missing (see `%s --help`)", names[len(args)], cmd.CommandPath())
		case len(args) > len(names):
			return usagef("unexpected argument %q (see `%s --help`)", args[len(names)], cmd.CommandPath())
		}
		return nil
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
