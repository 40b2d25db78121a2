package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

// leastInterval is what a rate can be made of: the agent's counters are exact, the walk that finds flows is made twice a second at most.
const leastInterval = 100 * time.Millisecond

func newTop(a *app) *cobra.Command {
	o := topOptions{}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what each container receives and sends, its flows and its drops, live",
		Long: `top shows rates per container, and renews them until it is ended. On a terminal keys choose the order: b bytes, r receive, t transmit,
p packets, d drops, f flows, n name; q ends it.

With --once it prints one table of what happens within the interval, and with -o json one object: one a line and interval without --once.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.interval < leastInterval {
				return usagef("--interval %v: at least %v", o.interval, leastInterval)
			}
			if !slices.Contains(topOrders(), o.sort) {
				return usagef("--sort %s: it is one of %s", o.sort, strings.Join(topOrders(), ", "))
			}
			return a.top(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.once, "once", false, "one look, after one interval")
	f.DurationVar(&o.interval, "interval", time.Second, "how long a look takes")
	f.StringVar(&o.sort, "sort", "bytes", strings.Join(topOrders(), ", "))
	return cmd
}

type topOptions struct {
	once     bool
	interval time.Duration
	sort     string
}

func (a *app) top(ctx context.Context, o topOptions) error {
	before, err := a.activity(ctx)
	if err != nil {
		return err
	}
	var screen *terminal
	var keys chan byte // none where nobody types
	if a.output == "table" && !o.once {
		if screen, err = openTerminal(a.stdin, a.stdout); err != nil {
			return err
		}
	}
	if screen != nil {
		defer screen.close()
		keys = screen.keys
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	view := newTopView(before, before)
	for first := true; ; {
		if screen != nil {
			if err := view.draw(screen, o, first); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil // ^C is how it ends
		case key, ok := <-keys:
			if !ok || key == 'q' || key == 'Q' {
				return nil
			}
			for _, order := range topOrders() {
				if order[0] == key {
					o.sort = order
				}
			}
			continue
		case <-tick.C:
		}
		now, err := a.activity(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		view, before, first = newTopView(before, now), now, false
		view.sort(o.sort)
		if screen == nil {
			if err := a.printTop(view, o); err != nil {
				return err
			}
		}
		if o.once {
			return nil
		}
	}
}

func (a *app) activity(ctx context.Context) (act api.Activity, err error) {
	return act, a.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
		act, err = c.Activity(ctx)
		return err
	})
}

// printTop prints a view for a pipe, a file, or a terminal that can do no more than a printer.
func (a *app) printTop(v topView, o topOptions) error {
	if a.output == "json" && !o.once {
		line, err := json.Marshal(v)
		if err == nil {
			_, err = a.stdout.Write(append(line, '\n'))
		}
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	err := a.print(v, func(w *tableWriter) {
		w.line("%s", v.summary())
		v.table(w)
	})
	if err == nil && !o.once {
		_, err = fmt.Fprintln(a.stdout)
	}
	return err
}

// draw shows a view on a terminal.
func (v *topView) draw(t *terminal, o topOptions, first bool) error {
	v.sort(o.sort)
	lines := []string{v.summary()}
	if first {
		lines[0] = "ebpfnet " + v.Instance + ": looking…"
	}
	for _, p := range v.Problems {
		lines = append(lines, "problem: "+printable(p))
	}
	var table bytes.Buffer
	w := newTable(&table)
	v.table(w)
	if err := w.flush(); err != nil {
		return err
	}
	lines = append(append(lines, ""), strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")...)
	return t.draw(lines, fmt.Sprintf(" by %s, every %v   b)ytes r)eceive t)ransmit p)ackets d)rops f)lows n)ame q)uit ", o.sort, o.interval))
}
