package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/loader"
)

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is attached, whether an agent runs, and what is wrong",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), requestTimeout)
			defer cancel()
			s, err := a.client().Status(ctx)
			switch {
			case errors.Is(err, client.ErrForbidden), errors.Is(err, client.ErrNoAgent) && loader.CheckPrivileges() != nil:
				return errNeedsRoot
			case errors.Is(err, client.ErrNoAgent):
				s, err = agent.OfflineStatus(a.paths(), buildVersion())
			}
			if err != nil {
				return err
			}
			return a.print(s, func(w *tableWriter) { statusTable(w, s) })
		},
	}
}

func statusTable(w *tableWriter, s api.Status) {
	w.row("instance", s.Instance)
	w.row("version", s.Version)
	w.row("agent", agentLine(s.Agent))
	if s.Agent.Running {
		w.row("log", s.Agent.Log)
		w.row("metrics", s.Agent.MetricsURL)
		w.row("page", s.Agent.PageURL)
	}
	w.row("mode", s.Mode)
	if s.Monitors > 0 {
		w.row("monitors", s.Monitors)
	}
	w.row("kernel", strings.TrimSpace(s.Kernel.Release+" "+s.Kernel.Hook))
	if len(s.Bridges) > 0 {
		w.line("")
		w.row("BRIDGE", "STATE", "MODE", "RULES", "ENDPOINTS", "SUBNETS")
		for _, b := range s.Bridges {
			state := "attached"
			switch {
			case !b.Attached:
				state = "waiting"
			case b.FailClosed:
				state = "attached, fails closed"
			}
			w.row(b.Name, state, b.Mode, b.Rules, b.Endpoints, strings.Join(b.Subnets, ","))
		}
		w.line("")
		for _, b := range s.Bridges {
			if b.Reason != "" {
				w.line("mode of %s: %s, because %s", b.Name, b.Mode, b.Reason)
			}
		}
	}
	if len(s.Uplinks) > 0 {
		w.line("")
		w.row("UPLINK", "HOOK", "ADDRESS")
		for _, u := range s.Uplinks {
			w.row(u.Name, u.Hook, u.Address)
		}
	}
	if o := s.Overlay; o != nil {
		w.line("")
		w.row("NETWORK", "BACKEND", "STATE", "SUBNET", "PUBLIC IP", "MTU", "PEERS")
		w.row(o.Network, o.Backend, o.State, o.Subnet, o.PublicIP, o.MTU, o.Peers)
	}
	if len(s.Problems) > 0 {
		w.line("")
		for _, p := range s.Problems {
			w.line("problem: %s", p)
		}
	}
}

func agentLine(s api.AgentStatus) string {
	switch {
	case !s.Running:
		return "not running"
	case s.Background:
		return fmt.Sprintf("running in the background (pid %d)", s.PID)
	}
	return fmt.Sprintf("running (pid %d)", s.PID)
}
