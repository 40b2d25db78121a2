package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newEndpoint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "Show the containers on attached bridges",
		Args:  unknownCommand,
		RunE:  groupOnly,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the endpoints: network namespaces on attached bridges, Docker's or not",
			Args:  takes(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				var l []api.Endpoint
				err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
					l, err = c.Endpoints(ctx)
					return err
				})
				if err != nil {
					return err
				}
				return list(a, l, func(w *tableWriter) { endpointTable(w, l) })
			},
		},
		&cobra.Command{
			Use:   "get NAME",
			Short: "Show one endpoint, by its container's name or id, its veth or an address",
			Args:  takes(1, "NAME"),
			RunE: func(cmd *cobra.Command, args []string) error {
				var e api.EndpointDetail
				err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
					e, err = c.Endpoint(ctx, args[0])
					return err
				})
				if err != nil {
					return err
				}
				return a.print(e, func(w *tableWriter) { endpointDetail(w, e) })
			},
		},
	)
	return cmd
}

func endpointTable(w *tableWriter, l []api.Endpoint) {
	w.row("NAME", "ID", "BRIDGE", "ADDRESS", "MAC", "VETH", "PORTS")
	for _, e := range l {
		w.row(e.Name, shortID(e.ID), e.Bridge, strings.Join(e.Addresses, ","), e.MAC, e.Veth, portList(e.Ports))
	}
}

func endpointDetail(w *tableWriter, e api.EndpointDetail) {
	w.row("name", e.Name)
	w.row("container", e.Container)
	w.row("id", e.ID)
	w.row("network", e.Network)
	w.row("bridge", e.Bridge)
	w.row("addresses", strings.Join(e.Addresses, ","))
	w.row("mac", e.MAC)
	if len(e.Shared) > 0 {
		w.row("shared with", strings.Join(e.Shared, ","))
	}
	w.row("ports", portList(e.Ports))
	c := e.Counters
	w.row("received", fmt.Sprintf("%d packets, %d bytes, %d dropped", c.ReceivePackets, c.ReceiveBytes, c.ReceiveDropped))
	w.row("sent", fmt.Sprintf("%d packets, %d bytes, %d dropped", c.TransmitPackets, c.TransmitBytes, c.TransmitDropped))
	w.line("")
	w.row("END", "DEVICE", "IFINDEX", "STATE", "MTU", "NAMESPACE", "BY")
	for _, end := range []struct {
		name string
		api.VethEnd
		otherwise api.VethEnd // where it was not looked at
	}{{"host", e.Host, api.VethEnd{Name: e.Veth, Ifindex: e.VethIfindex}}, {"container", e.Inside, api.VethEnd{Name: e.PeerName, Ifindex: e.PeerIfindex}}} {
		if end.Name == "" {
			end.VethEnd = end.otherwise
		}
		w.row(end.name, end.Name, end.Ifindex, upDown(end.VethEnd), end.MTU, end.Namespace, end.Path)
	}
	w.line("")
	for _, r := range e.Routes {
		w.line("route %s", routeText(r))
	}
	if e.NotLooked != "" {
		w.line("not looked into: %s", e.NotLooked)
	}
}

func upDown(e api.VethEnd) string {
	switch {
	case e.Namespace == "":
		return ""
	case e.Up:
		return "up"
	}
	return "down"
}

// routeText is a route as ip(8) writes it.
func routeText(r api.Route) string {
	text := printable(r.Destination)
	for _, part := range [][2]string{{"via", r.Gateway}, {"dev", printable(r.Device)}, {"src", r.Source}} {
		if part[1] != "" {
			text += " " + part[0] + " " + part[1]
		}
	}
	if r.Metric != 0 {
		text += fmt.Sprintf(" metric %d", r.Metric)
	}
	return text
}

func portList(ports []api.Port) string {
	s := make([]string, len(ports))
	for i, p := range ports {
		s[i] = fmt.Sprintf("%s->%s/%s", hostPorts(p), span(p.ContainerPort, p.ContainerEnd), p.Proto)
	}
	return strings.Join(s, ",")
}

func shortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
