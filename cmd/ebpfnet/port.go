package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newPort(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port",
		Short: "Show published ports",
		Args:  unknownCommand,
		RunE:  groupOnly,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the published ports, Docker's and the user's",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l []api.Port
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				l, err = c.Ports(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return list(a, l, func(w *tableWriter) { portTable(w, l) })
		},
	})
	return cmd
}

func portTable(w *tableWriter, l []api.Port) {
	w.row("HOST", "PROTO", "CONTAINER", "ADDRESS", "SOURCE", "STATE")
	for _, p := range l {
		w.row(hostPorts(p), p.Proto, p.Endpoint, containerPorts(p), p.Source, portState(p))
	}
}

func hostPorts(p api.Port) string { return p.HostIP + ":" + span(p.HostPort, p.HostEnd) }

func containerPorts(p api.Port) string {
	if p.Address == "" {
		return ":" + span(p.ContainerPort, p.ContainerEnd)
	}
	return p.Address + ":" + span(p.ContainerPort, p.ContainerEnd)
}

func portState(p api.Port) string {
	state := "inactive"
	if p.Active {
		state = "active"
	}
	if p.From != "" {
		state += " from " + p.From
	}
	if p.Uplink != "" {
		state += " by " + p.Uplink
	}
	return state
}

func span(first, last uint16) string {
	if last <= first {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
