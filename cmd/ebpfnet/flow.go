package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newFlow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "flow",
		Aliases: []string{"nat"},
		Short:   "Show flows and their translations",
		Args:    unknownCommand,
		RunE:    groupOnly,
	}
	var container, proto string
	lst := &cobra.Command{
		Use:   "list",
		Short: "List the flows that the datapath knows, each with its tuple before and after translation",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			protos := []string{"", "tcp", "udp", "icmp", "sctp"}
			if !slices.Contains(protos, proto) {
				return usagef("--proto %s: it is one of %s", proto, strings.Join(protos[1:], ", "))
			}
			var l []api.Flow
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				l, err = c.Flows(ctx, container, proto)
				return err
			})
			if err != nil {
				return err
			}
			return list(a, l, func(w *tableWriter) { flowTable(w, l) })
		},
	}
	lst.Flags().StringVar(&container, "container", "", "only flows of this container (a name, an id, an address)")
	lst.Flags().StringVar(&proto, "proto", "", "only flows of this protocol: tcp, udp, icmp or sctp")
	cmd.AddCommand(lst)
	return cmd
}

func flowTable(w *tableWriter, l []api.Flow) {
	w.row("PROTO", "PATH", "STATE", "ORIGINAL", "TRANSLATED", "CONTAINER", "PACKETS", "BYTES", "AGE", "IDLE")
	for _, f := range l {
		w.row(f.Proto, f.Path, f.State, tuple(f.Original), tuple(f.Translated), f.Container, f.Packets, f.Bytes,
			seconds(f.Age), seconds(f.Idle))
	}
}

func tuple(t api.Tuple) string {
	if t.SourcePort == 0 && t.DestinationPort == 0 {
		return t.Source + ">" + t.Destination
	}
	return fmt.Sprintf("%s:%d>%s:%d", t.Source, t.SourcePort, t.Destination, t.DestinationPort)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Truncate(time.Second).String()
}
