package main

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newTrace(a *app) *cobra.Command {
	var q api.TraceQuery
	var to string
	cmd := &cobra.Command{
		Use:   "trace --from WHO --to ADDRESS[:PORT][/PROTO]",
		Short: "Say what would become of a packet, step by step, without sending it",
		Long: `trace builds a packet, has the programs decide about it in the state that everything is in now, and shows what they did: the program, the
containers, what lets it pass or forbids it, the published port, the flow, the address and the port that it would leave with, the route, and the packet as it goes on. Where
it is left to the kernel, it shows what the kernel's routing says. Nothing is sent, and nothing changes.

WHO is a container, host, or wire: anybody outside, or whom --from-addr names. ADDRESS may be a container too. PROTO is tcp, udp, sctp or icmp; TCP opens a
connection, icmp is an echo request.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.From == "" {
				return usagef("--from is missing: a container, host or wire")
			}
			if err := parseTarget(&q, to); err != nil {
				return err
			}
			var t api.Trace
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				t, err = c.Trace(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			return a.print(t, func(w *tableWriter) { traceTable(w, t) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.From, "from", "", "who sends: a container (a name, an id, an address), host, or wire")
	f.StringVar(&to, "to", "", "what is dialled: an address or a container, :PORT, /PROTO (tcp where it is left out)")
	f.StringVar(&q.FromAddress, "from-addr", "", "the sender's address: who it is on the wire (203.0.113.77), or another than a container's own")
	f.StringVar(&q.Uplink, "uplink", "", "where it comes from the wire (the uplink that has the address, or the way back)")
	f.Uint16Var(&q.SourcePort, "sport", 0, "the sender's port, or the id of an echo request (40000)")
	f.IntVar(&q.Size, "size", 0, "bytes behind the headers")
	f.Uint8Var(&q.TTL, "ttl", 0, "the IP header's time to live (64)")
	return cmd
}

// parseTarget reads ADDRESS[:PORT][/PROTO].
func parseTarget(q *api.TraceQuery, s string) error {
	if s == "" {
		return usagef("--to is missing: ADDRESS[:PORT][/PROTO]")
	}
	target, proto, named := strings.Cut(s, "/")
	if q.Proto = "tcp"; named {
		q.Proto = strings.ToLower(proto)
	}
	q.To, q.Port = target, 0
	if _, err := netip.ParseAddr(target); err == nil {
		return nil
	}
	i := strings.LastIndexByte(target, ':')
	if i < 0 {
		return nil
	}
	port, err := strconv.ParseUint(target[i+1:], 10, 16)
	if err != nil || port == 0 {
		return usagef("--to %s: port %q is not 1 to 65535", s, target[i+1:])
	}
	q.To, q.Port = target[:i], uint16(port)
	return nil
}

func traceTable(w *tableWriter, t api.Trace) {
	for _, s := range t.Steps {
		w.row(s.Step, s.Fact)
	}
}
