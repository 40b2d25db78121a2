package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Say who may talk to whom",
		Args:  unknownCommand,
		RunE:  groupOnly,
	}
	cmd.AddCommand(newPolicyApply(a), newPolicyList(a), newPolicyDelete(a), newPolicyTest(a))
	return cmd
}

func newPolicyApply(a *app) *cobra.Command {
	var files []string
	var q api.PolicyRequest
	cmd := &cobra.Command{
		Use:   "apply -f FILE...",
		Short: "Put rules in force",
		Long: `apply puts Kubernetes NetworkPolicy objects (networking.k8s.io/v1) in force. A container's labels are the pod's; its Compose project, or else
its Docker network, is the namespace. A policy of the same name is replaced. Where anything in the files is wrong, nothing is changed.

Established connections are judged again: those that the rules no longer let pass end.`,
		Example: "  ebpfnet policy apply -f web.yaml --dry-run",
		Args:    takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f is missing: the file of rules, or - for standard input")
			}
			for _, f := range files {
				text, err := readFile(cmd.InOrStdin(), f)
				if err != nil {
					return err
				}
				q.Documents = append(q.Documents, api.PolicyDocument{File: f, Text: string(text)})
			}
			var c api.PolicyChange
			err := a.ask(cmd.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				c, err = cl.ApplyPolicies(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			return a.showPolicyChange(c, "applied")
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file of rules, - for standard input (may be repeated)")
	cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "change nothing: say which containers the rules select, and which connections they would cut")
	return cmd
}

func readFile(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		b, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return b, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return b, nil
}

// showPolicyChange prints what a change of the rules did, or would do.
func (a *app) showPolicyChange(c api.PolicyChange, done string) error {
	if c.Undone {
		done = "would be " + done
	}
	return a.print(c, func(w *tableWriter) {
		for _, p := range c.Policies {
			w.line("%s %s: %s of %s", p.Name, done, strings.Join(p.Direction, " and "), containers(p.Selected))
		}
		verb := "cut"
		if c.Undone {
			verb = "would be cut"
		}
		for _, f := range c.Cut {
			w.line("%s: %s %s (%s)", verb, f.Proto, tuple(f.Original), printable(f.Container))
		}
		if c.Undone && len(c.Cut) == 0 {
			w.line("no connection would be cut")
		}
	})
}

func containers(names []string) string {
	if len(names) == 0 {
		return "no container that runs now"
	}
	for i, n := range names {
		names[i] = printable(n)
	}
	return strings.Join(names, ", ")
}

func newPolicyList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the rules and whom they select",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l []api.Policy
			err := a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				l, err = c.Policies(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return list(a, l, func(w *tableWriter) {
				w.row("NAME", "DIRECTION", "SOURCE", "SELECTS")
				for _, p := range l {
					w.row(printable(p.Name), strings.Join(p.Direction, ","), printable(p.Source), printable(strings.Join(p.Selected, ",")))
				}
			})
		},
	}
}

func newPolicyDelete(a *app) *cobra.Command {
	var q api.PolicyDelete
	cmd := &cobra.Command{
		Use:   "delete [NAMESPACE/]NAME",
		Short: "Take back rules that apply put in force",
		Args:  takes(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			var c api.PolicyChange
			err := a.ask(cmd.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				c, err = cl.DeletePolicy(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			return a.showPolicyChange(c, "deleted")
		},
	}
	cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "change nothing: say whom the rules select, and which connections would be cut")
	return cmd
}

func newPolicyTest(a *app) *cobra.Command {
	var q api.PolicyQuery
	var to string
	cmd := &cobra.Command{
		Use:   "test --from CONTAINER|IP --to CONTAINER|IP[:PORT][/tcp|udp|sctp|icmp]",
		Short: "Say whether the rules let somebody dial somebody, and which rule decides",
		Long: `test says what the rules in force say of a connection. It sends nothing. It knows of rules alone: 'ebpfnet trace' says what becomes of a packet,
Docker's isolation and routes included.

Exit status 0 where it is allowed, 1 where it is not.`,
		Example: "  ebpfnet policy test --from web --to db:5432",
		Args:    takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.From == "" || to == "" {
				return usagef("--from and --to say who dials whom")
			}
			var err error
			if q.To, q.Port, q.Proto, err = splitTarget(to); err != nil {
				return usageError{err}
			}
			var v api.PolicyVerdict
			err = a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) (err error) {
				v, err = c.TestPolicy(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			err = a.print(v, func(w *tableWriter) {
				w.row("SIDE", "VERDICT", "RULE")
				w.row("egress", sideVerdict(v.Egress), printable(v.Egress.Rule))
				w.row("ingress", sideVerdict(v.Ingress), printable(v.Ingress.Rule))
				w.line("")
				w.line("%s", strings.TrimSpace(v.Verdict+" "+v.Reason+" "+printable(v.Rule)))
			})
			if err == nil && v.Verdict != "allow" {
				err = errRefused
			}
			return err
		},
	}
	cmd.Flags().StringVar(&q.From, "from", "", "who dials: a container or an address")
	cmd.Flags().StringVar(&to, "to", "", "who is dialled, and by which port")
	return cmd
}

// errRefused makes the exit status say what the rules say.
var errRefused = errors.New("the rules do not let it pass")

func sideVerdict(s api.PolicySide) string {
	switch {
	case !s.Asked:
		return "not asked"
	case s.Allow:
		return "allow"
	default:
		return "drop"
	}
}

// splitTarget reads WHO[:PORT][/PROTOCOL].
func splitTarget(text string) (who string, port uint16, proto string, err error) {
	rest, proto, named := strings.Cut(text, "/")
	if !named {
		proto = "tcp"
	}
	who, number, hasPort := strings.Cut(rest, ":")
	if !hasPort {
		return who, 0, proto, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, "", fmt.Errorf("--to %q: %q is not a port", text, number)
	}
	return who, uint16(n), proto, nil
}
