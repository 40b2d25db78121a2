package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newPeer(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peer",
		Short: "Show, add and remove other hosts",
		Args:  unknownCommand,
		RunE:  groupOnly,
	}
	cmd.AddCommand(newPeerList(a), newPeerAdd(a), newPeerRemove(a))
	return cmd
}

func newPeerList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the other hosts and how their containers are reached",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l []api.Peer
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				l, err = c.Peers(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return list(a, l, func(w *tableWriter) {
				w.row("SUBNET", "VIA", "WAY", "MAC", "SOURCE", "NODE")
				for _, p := range l {
					w.row(p.Subnet, p.Via, p.Way, p.MAC, p.Source, p.Node)
				}
			})
		},
	}
}

func newPeerAdd(a *app) *cobra.Command {
	var q api.PeerRequest
	var file string
	cmd := &cobra.Command{
		Use:   "add SUBNET --via IP | add -f FILE",
		Short: "Reach another host's containers",
		Long: `add makes the containers in SUBNET, which are on the host IP, reachable from the attached bridges, through VXLAN (VNI 1, UDP port 8472). The
other host has to be told of this one's subnet in the same way. A file has a line for each host: its subnet, its address, and its tunnel
endpoint's MAC address where no ebpfnet made it. What stands behind # is passed over, and so is the line of this host: the same file does
for all of them.`,
		Example: `  ebpfnet peer add 10.200.2.0/24 --via 192.0.2.12
  ebpfnet peer add -f /etc/ebpfnet/peers`,
		Args: takes(0, "SUBNET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				if len(args) > 0 || q.Via != "" || q.MAC != "" {
					return usagef("-f %s: a subnet, --via and --mac stand in the file", file)
				}
				return a.addPeersOf(cmd.Context(), file)
			}
			if len(args) == 0 {
				return usagef("the other host's subnet is missing, or -f with a file")
			}
			q.Subnet = args[0]
			if q.Via == "" {
				return usagef("--via is missing: the other host's address")
			}
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error { return c.AddPeer(ctx, q) })
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is reached by %s\n", q.Subnet, q.Via)
			return nil
		},
	}
	cmd.Flags().StringVar(&q.Via, "via", "", "the other host's address")
	cmd.Flags().StringVarP(&file, "file", "f", "", "a file with a line for each host")
	cmd.Flags().StringVar(&q.MAC, "mac", "", "the MAC address of its tunnel endpoint, where no ebpfnet made it")
	return cmd
}

func newPeerRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove SUBNET",
		Short: "Forget another host that was added",
		Args:  takes(1, "SUBNET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				return c.RemovePeer(ctx, api.PeerRequest{Subnet: args[0]})
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is forgotten\n", args[0])
			return nil
		},
	}
}
