package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/loader"
)

func newAttach(a *app) *cobra.Command {
	var r api.AttachRequest
	cmd := &cobra.Command{
		Use:   "attach {--bridge BRIDGE... | --all}",
		Short: "Put the datapath under the containers of a bridge",
		Long: `attach puts the datapath under the containers of bridges, starting an agent in the background if none runs.

--mode native decides about every flow by itself and does without netfilter rules, whoever made them. --mode offload leaves each new flow to the
kernel's own path with all its rules and its translation, and carries it once it is established there. --mode auto looks at the rules and chooses,
again whenever they change: native where they are Docker's own, offload where others stand beside them. Without rules of Docker's nobody else
would translate, so there it refuses to bypass others'.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAttach(cmd, r); err != nil {
				return err
			}
			return a.attach(cmd.Context(), r)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&r.Bridges, "bridge", nil, "a bridge to attach (may be repeated)")
	f.BoolVar(&r.All, "all", false, "every Docker bridge network, later ones too")
	f.StringSliceVar(&r.Uplinks, "uplink", nil, "a device that leads outside (may be repeated; default: every device with a default route)")
	f.StringVar(&r.Mode, "mode", "auto", "auto, native or offload")
	f.BoolVar(&r.Spoofing, "allow-spoofing", false, "let containers on the bridges send from addresses that are not theirs: routers, virtual machines")
	f.BoolVar(&r.FailClosed, "fail-closed", false, "let nobody on the bridges send or receive before the agent knows of him")
	f.BoolVar(&r.Wait, "wait", false, "do not mind a bridge that is not there yet: attach it when it comes")
	return cmd
}

func checkAttach(cmd *cobra.Command, r api.AttachRequest) error {
	switch {
	case r.All && len(r.Bridges) > 0:
		return usagef("--all and --bridge exclude each other")
	case !r.All && len(r.Bridges) == 0:
		return usagef("name a bridge with --bridge, or take all of Docker's with --all")
	case slices.Contains(r.Bridges, "") || slices.Contains(r.Uplinks, ""):
		return usagef("a device's name is empty")
	case !slices.Contains([]string{"auto", "native", "offload"}, r.Mode):
		return usagef("--mode %s: it is auto, native or offload", r.Mode)
	}
	return nil
}

func (a *app) attach(ctx context.Context, r api.AttachRequest) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c := a.client()
	started, err := c.Attach(ctx, r)
	pid := 0
	if errors.Is(err, client.ErrNoAgent) {
		if loader.CheckPrivileges() != nil {
			return errNeedsRoot
		}
		if pid, err = a.startAgent(ctx); err != nil {
			return err
		}
		if started, err = c.Attach(ctx, r); err != nil && pid != 0 {
			// It ends by itself, having nothing to look after; nothing of it is to be left when this returns.
			a.awaitGone(ctx, pid)
		}
	}
	if errors.Is(err, client.ErrForbidden) {
		return errNeedsRoot
	}
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.print(started, nil)
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	a.printAttached(started, status, pid)
	return nil
}

// startAgent starts an agent in the background, and waits for one that someone else has just started (pid 0).
func (a *app) startAgent(ctx context.Context) (pid int, err error) {
	args := []string{"--instance", a.instance, "agent", "--background", "--ready-fd", fmt.Sprint(agent.ReadyFD)}
	if a.dockerHost != "" {
		args = append(args, "--docker-host", a.dockerHost)
	}
	if a.verbose {
		args = append(args, "--verbose")
	}
	pid, err = agent.StartBackground(ctx, args, a.paths().Log)
	if err == nil {
		return pid, nil
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if _, serr := a.client().Status(ctx); serr == nil {
			return 0, nil
		} else if _, lerr := os.Stat(a.paths().Lock); lerr != nil {
			break // nobody else is starting one
		}
	}
	return 0, err
}

// awaitGone waits until a background agent has ended and has taken its socket with it.
func (a *app) awaitGone(ctx context.Context, pid int) bool {
	p := a.paths()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		_, socket := os.Stat(p.Socket)
		_, lock := os.Stat(p.Lock)
		if errors.Is(socket, os.ErrNotExist) && errors.Is(lock, os.ErrNotExist) && !agent.Alive(pid) {
			return true
		}
	}
	return false
}

func (a *app) printAttached(started api.Started, s api.Status, pid int) {
	for _, b := range s.Bridges {
		if slices.Contains(started.Attached, b.Name) {
			fmt.Fprintf(a.stdout, "attached %s (%s, mode %s, endpoints %d)\n", b.Name, strings.Join(b.Subnets, ","), b.Mode, b.Endpoints)
			if b.Mode == "offload" {
				fmt.Fprintf(a.stdout, "mode offload: %s\n", b.Reason)
			}
		}
	}
	for _, name := range started.Waiting {
		fmt.Fprintf(a.stdout, "waiting for %s\n", name)
	}
	for _, u := range s.Uplinks {
		fmt.Fprintf(a.stdout, "uplink %s (%s, %s)\n", u.Name, u.Address, u.Hook)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(a.stdout, "problem: %s\n", p)
	}
	if pid == 0 {
		return
	}
	fmt.Fprintf(a.stdout, "started an agent in the background (pid %d), log: %s\n", pid, s.Agent.Log)
	if s.Agent.MetricsURL != "" {
		fmt.Fprintf(a.stdout, "metrics: %s\n", s.Agent.MetricsURL)
	}
	if s.Agent.PageURL != "" {
		fmt.Fprintf(a.stdout, "page: %s\n", s.Agent.PageURL)
	}
}
