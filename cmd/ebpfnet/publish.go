package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/policy"
)

func newPublish(a *app) *cobra.Command {
	var r api.PublishRequest
	cmd := &cobra.Command{
		Use:   "publish [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp] [CONTAINER|IP]",
		Short: "Publish a port of a running container",
		Long: `publish makes a port of the host, or a range of them, lead to a running container, at once.

Without a container: the only endpoint there is, or the only one whose image exposes the port.

--from and --uplink hold for connections from other machines, and --from for those of containers too; the host itself always reaches it.`,
		Example: "  ebpfnet publish 5432:5432 db --from 10.0.0.0/8,192.0.2.7",
		Args:    takes(1, "PORTS", "CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := policy.ParsePublish(args[0]); err != nil {
				return usageError{err}
			}
			r.Spec = args[0]
			if r.From != "" {
				if _, err := policy.ParseFrom(r.From); err != nil {
					return usagef("--from: %w", err)
				}
			}
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
	cmd.Flags().StringVar(&r.From, "from", "", "who alone may use it: CIDR[,CIDR]")
	cmd.Flags().StringVar(&r.Uplink, "uplink", "", "the device by which alone it is reached from outside")
	return cmd
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
