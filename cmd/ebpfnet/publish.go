package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/policy"
)

func newPublish(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "publish [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp] [CONTAINER|IP]",
		Short: "Publish a port of a running container",
		Long: `publish makes a port of the host, or a range of them, lead to a running container, at once.

Without a container: the only endpoint there is, or the only one whose image exposes the port.`,
		Args: takes(1, "PORTS", "CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := policy.ParsePublish(args[0]); err != nil {
				return usageError{err}
			}
			r := api.PublishRequest{Spec: args[0]}
			if len(args) > 1 {
				if r.Target = args[1]; r.Target == "" {
					return usagef("the container's name is empty")
				}
			}
			var p api.Port
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				p, err = c.Publish(ctx, r)
				return err
			})
			if err != nil {
				return err
			}
			return a.print(p, func(w *tableWriter) {
				w.line("published %s/%s -> %s (%s)", hostPorts(p), p.Proto, p.Endpoint, containerPorts(p))
			})
		},
	}
}

func newUnpublish(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unpublish [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]",
		Short: "Take back a port that publish published",
		Args:  takes(1, "PORTS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := policy.ParseUnpublish(args[0]); err != nil {
				return usageError{err}
			}
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				return c.Unpublish(ctx, api.UnpublishRequest{Spec: args[0]})
			})
			if err != nil {
				return err
			}
			result := struct {
				Unpublished string `json:"unpublished"`
			}{args[0]}
			return a.print(result, func(w *tableWriter) { w.line("unpublished %s", args[0]) })
		},
	}
}
