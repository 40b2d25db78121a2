package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/doctor"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine this kernel and host: what they offer, what is missing, how to mend it",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := doctor.Examine(cmd.Context(), doctor.Host{
				Paths: a.paths(), DockerHost: a.dockerHost, ForeignRules: agent.ForeignRules,
			})
			if err := list(a, findings, func(w *tableWriter) { findingTable(w, findings) }); err != nil {
				return err
			}
			errs := 0
			for _, f := range findings {
				if f.Level == doctor.Error {
					errs++
				}
			}
			switch errs {
			case 0:
				return nil
			case 1:
				return errors.New("one thing is in the way: see above")
			}
			return fmt.Errorf("%d things are in the way: see above", errs)
		},
	}
}

func findingTable(w *tableWriter, l []api.Finding) {
	for _, f := range l {
		text := f.Found
		if f.Advice != "" {
			text += ": " + f.Advice
		}
		w.row(f.Level, f.Check, text)
	}
}
