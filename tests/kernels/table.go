package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// leftOutDetail is told of a step that nobody asked for.
const leftOutDetail = "left out"

// judge completes what the machine said: a step that it never came to has failed, and the kernel must be what the table of kernels says.
func (o *outcome) judge() {
	for i := range o.results {
		r := &o.results[i]
		switch {
		case r.Step == step.Hook && r.OK && r.Detail != o.kernel.hook:
			r.OK, r.Detail = false, fmt.Sprintf("%s, and not %s as the table of kernels says", r.Detail, o.kernel.hook)
		case r.Step == step.Features && r.OK:
			lacks := strings.Fields(r.Detail)
			if !slices.Equal(lacks, o.kernel.lacks) {
				r.OK = false
				r.Detail = fmt.Sprintf("lacks %v, and not %v as the table of kernels says", lacks, o.kernel.lacks)
			}
		}
	}
	o.judgeLeftOut()
	for _, s := range step.All() {
		if !slices.ContainsFunc(o.results, func(r step.Result) bool { return r.Step == s.Name }) {
			if slices.Contains(o.left, s.Name) {
				o.results = append(o.results, step.Result{Step: s.Name, OK: true, Detail: leftOutDetail})
				continue
			}
			o.results = append(o.results, step.Result{Step: s.Name, Detail: "not reached"})
		}
	}
	switch {
	case o.err != nil:
	case !o.ended:
		o.err = fmt.Errorf("the machine ended without saying how (see %s)", o.console)
	case o.code != 0:
		o.err = fmt.Errorf("the machine ended with RC=%d", o.code)
	}
}

// judgeLeftOut: tests are left out for the reasons that the table of kernels gives, and for all of those where all tests were run.
func (o *outcome) judgeLeftOut() {
	told, all := map[string]bool{}, true
	for _, name := range []string{step.Packet, step.Loader, step.Uplinks} {
		i := slices.IndexFunc(o.results, func(r step.Result) bool { return r.Step == name })
		if i < 0 || !o.results[i].OK || slices.Contains(o.part, name) {
			all = false
		}
		if i < 0 {
			continue
		}
		for _, reason := range step.Reasons(o.results[i].Detail) {
			told[reason] = true
			if !slices.Contains(o.kernel.leaves, reason) {
				o.results[i].OK = false
			}
		}
	}
	for _, reason := range o.kernel.leaves {
		if all && !told[reason] && o.err == nil {
			o.err = fmt.Errorf("nothing is left out because %q, as the table of kernels says", reason)
		}
	}
}

// passed says whether everything did.
func (o *outcome) passed() bool {
	return o.err == nil && !slices.ContainsFunc(o.results, func(r step.Result) bool { return !r.OK })
}

func (o *outcome) cell(name string) string {
	for _, r := range o.results {
		if r.Step != name {
			continue
		}
		switch {
		case !r.OK && r.Detail == "not reached":
			return "-"
		case !r.OK:
			return "FAIL"
		case r.Detail == leftOutDetail:
			return "left out"
		case name == step.Hook:
			return r.Detail
		case slices.Contains(o.part, name):
			return "in part"
		case len(step.Reasons(r.Detail)) > 0:
			return "ok*"
		}
		return "ok"
	}
	return "-"
}

// writeTable prints a row for each kernel, and below it what failed, and what was left out of a step that has a star.
func writeTable(w io.Writer, all []*outcome) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "KERNEL\tPACKAGE")
	for _, s := range step.All() {
		fmt.Fprint(tw, "\t"+strings.ToUpper(s.Name))
	}
	fmt.Fprintln(tw)
	for _, o := range all {
		fmt.Fprintf(tw, "%s\t%s", o.kernel.name, o.version)
		for _, s := range step.All() {
			fmt.Fprint(tw, "\t"+o.cell(s.Name))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, o := range all {
		for _, r := range o.results {
			if !r.OK && r.Detail != "not reached" || len(step.Reasons(r.Detail)) > 0 {
				fmt.Fprintf(w, "%s: %s: %s\n", o.kernel.name, r.Step, r.Detail)
			}
		}
		if o.err != nil {
			fmt.Fprintf(w, "%s: %v\n", o.kernel.name, o.err)
		}
	}
	return nil
}
