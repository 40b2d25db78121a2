package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/loader"
)

func newDetach(a *app) *cobra.Command {
	var r api.DetachRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "detach {--bridge BRIDGE... | --all}",
		Short: "Take the datapath off again",
		Long: `detach takes the datapath off bridges. --all takes everything off, forgets published ports, and ends an agent that attach started:
the host is as it was before. It works without an agent too.

Where Docker's own rules stand behind a bridge, they carry its connections on. Where they do not (dockerd --iptables=false), what needs
translation stops: detach says how many flows that are, and on a terminal asks first.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case r.All && len(r.Bridges) > 0:
				return usagef("--all and --bridge exclude each other")
			case !r.All && len(r.Bridges) == 0:
				return usagef("name a bridge with --bridge, or take everything off with --all")
			}
			return a.detach(cmd.Context(), r, yes)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&r.Bridges, "bridge", nil, "a bridge to detach (may be repeated)")
	f.BoolVar(&r.All, "all", false, "everything")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) detach(ctx context.Context, r api.DetachRequest, yes bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c := a.client()
	status, err := c.Status(ctx)
	switch {
	case errors.Is(err, client.ErrNoAgent) && r.All:
		return a.detachWithoutAgent(yes)
	case err != nil:
		return a.ask(ctx, func(context.Context, *client.Client) error { return err })
	}
	stops, err := cutBy(ctx, c, status, r)
	if err != nil {
		return err
	}
	if err := a.confirm(stops.String(), yes); err != nil {
		return err
	}
	if err := c.Detach(ctx, r); err != nil {
		return err
	}
	if r.All && status.Agent.Background && !a.awaitGone(ctx, status.Agent.PID) {
		return fmt.Errorf("detached everything, but the agent (pid %d) does not end: see %s", status.Agent.PID, status.Agent.Log)
	}
	what := strings.Join(r.Bridges, ", ")
	if r.All {
		what = "everything"
	}
	return a.detached(what, stops)
}

func (a *app) detachWithoutAgent(yes bool) error {
	if loader.CheckPrivileges() != nil {
		return errNeedsRoot
	}
	p := a.paths()
	if loader.Exists(p) {
		if err := a.confirm("the traffic of all attached containers", yes); err != nil {
			return err
		}
	}
	if err := agent.RemoveAll(p); err != nil {
		return err
	}
	return a.detached("everything", stopping{})
}

func (a *app) detached(what string, stops stopping) error {
	result := struct {
		Detached string         `json:"detached"`
		Cut      map[string]int `json:"cut,omitempty"` // flows that nobody carries now, by kind
	}{what, stops.flows}
	return a.print(result, func(w *tableWriter) {
		w.line("detached %s", what)
		if said := stops.String(); said != "" {
			w.line("cut %s", said)
		}
	})
}

// confirm asks on a terminal, and only where something is cut.
func (a *app) confirm(cut string, yes bool) error {
	if cut == "" || yes || a.stdin == nil {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(a.stdin.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	fmt.Fprintf(a.stderr, "This cuts %s. Go on? [y/N] ", cut)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return errors.New("nothing is detached")
}
