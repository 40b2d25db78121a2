package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/loader"
)

const (
	metricsEnv         = "EBPFNET_METRICS_ADDR"
	defaultMetricsAddr = "127.0.0.1:9979"
)

func newAgent(a *app) *cobra.Command {
	o := agent.Options{Settings: loader.DefaultSettings()}
	var logs logging
	var page string
	var readyFD int
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent in the foreground",
		Long: `agent looks after the datapath: it follows containers, networks and devices, and keeps the kernel's tables right. It ends on SIGTERM and
leaves the datapath running; 'ebpfnet detach --all' takes that off.

Tables that are there already keep the size that they have. Where a flag names another one they get it, and keep their entries.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.MetricsExplicit = cmd.Flags().Changed("metrics-addr") || os.Getenv(metricsEnv) != ""
			if err := o.Settings.Validate(); err != nil {
				return usageError{err}
			}
			if o.Resync < time.Second {
				return usagef("--resync %v: at least 1s", o.Resync)
			}
			if o.Page = agent.PageMode(page); o.Page != agent.PageAuto && o.Page != agent.PageOn && o.Page != agent.PageOff {
				return usagef("--page %s: it is auto, on or off", page)
			}
			if err := finishOverlay(cmd.Flags(), &o.Overlay); err != nil {
				return err
			}
			cmd.Flags().Visit(func(f *pflag.Flag) { o.Asked = append(o.Asked, f.Name) })
			if !cmd.Flags().Changed("policies") {
				o.Policies = a.paths().Policies
			}
			log, err := logs.logger(a.stdout, a.verbose)
			if err != nil {
				return err
			}
			ready, err := agent.OpenReadiness(readyFD)
			if err != nil {
				return usagef("--ready-fd: %w", err)
			}
			o.Paths, o.Version, o.DockerHost, o.Log, o.Ready = a.paths(), buildVersion(), a.dockerHost, log, ready.Done
			if loader.CheckPrivileges() != nil {
				err = errNeedsRoot
			} else {
				err = agent.Run(cmd.Context(), o)
			}
			if err != nil {
				ready.Done(err)
			}
			return err
		},
	}
	f := cmd.Flags()
	addOverlayFlags(f, &o.Overlay)
	f.StringVar(&o.MetricsAddr, "metrics-addr", envOr(metricsEnv, defaultMetricsAddr), "where metrics are served; off for nowhere (env "+metricsEnv+")")
	f.DurationVar(&o.Resync, "resync", 30*time.Second, "how often everything is looked at again")
	f.StringVar(&page, "page", string(agent.PageAuto), "the live page beside the metrics: on, off, or auto for where their address is the loopback's")
	f.StringSliceVar(&o.PageHosts, "page-host", nil, "a name under which the page may be asked for, beside the host's own and localhost (may be repeated)")
	f.StringVar(&o.Policies, "policies", "", "folder of rules, which is watched (default /etc/ebpfnet/policies; of another instance /etc/ebpfnet/policies.NAME)")
	logs.flags(f)
	f.BoolVar(&o.Debug, "debug", false, "serve Go's profiles on the agent's unix socket, under /debug/pprof/")
	f.Uint32Var(&o.Settings.Flows, "flows", o.Settings.Flows, "size of the flow table")
	f.Uint32Var(&o.Settings.NewFlows, "new-flows", o.Settings.NewFlows, "size of the table of flows that are not answered yet")
	f.Uint32Var(&o.Settings.Endpoints, "endpoints", o.Settings.Endpoints, "largest number of container addresses")
	f.Uint32Var(&o.Settings.Published, "published", o.Settings.Published, "largest number of published ports")
	f.Uint32Var(&o.Settings.HostSockets, "host-sockets", o.Settings.HostSockets, "largest number of sockets of the host towards published ports")
	f.Uint16Var(&o.Settings.NATPortMin, "nat-port-min", o.Settings.NATPortMin, "lowest port that a masqueraded flow leaves with")
	f.Uint16Var(&o.Settings.NATPortMax, "nat-port-max", o.Settings.NATPortMax, "highest port that a masqueraded flow leaves with")
	f.Uint16Var(&o.Settings.MSS, "mss", o.Settings.MSS,
		"largest TCP segment size, in bytes, that connections across networks announce, beside what their route takes; 0 changes none")
	f.BoolVar(&o.Background, "background", false, "it was started by attach: end with detach --all")
	f.IntVar(&readyFD, "ready-fd", 0, "descriptor to tell readiness on")
	for _, hidden := range []string{"background", "ready-fd"} {
		if err := f.MarkHidden(hidden); err != nil {
			panic(err) // the flag was defined just now
		}
	}
	return cmd
}
