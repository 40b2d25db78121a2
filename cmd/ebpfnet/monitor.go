package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

func newMonitor(a *app) *cobra.Command {
	var q api.MonitorQuery
	var pcap string
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Show what is decided about packets, one by one, as it happens",
		Long: `monitor shows, until it is ended, each packet that a program has decided about: when, which program on which device, the verdict (drop, pass
or forward) and its reason, the tuple as the packet came and as it goes on, and the containers.

pass means that the packet is left to the kernel. What no program has a say in (the host's own traffic to others, say) is not shown.

Flags narrow it; several must all hold. While nobody monitors, nothing of this costs the packets anything.`,
		Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Packet = pcap != ""
			return a.monitor(cmd.Context(), q, pcap)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&q.Drops, "drops", false, "only packets that are dropped")
	f.StringVar(&q.Container, "container", "", "only what this container sends or gets (a name, an id, an address)")
	f.StringVar(&q.Proto, "proto", "", "only this protocol: tcp, udp, icmp, sctp or a number")
	f.StringVar(&q.Port, "port", "", "only this port, on either side, before or after translation")
	f.StringVar(&q.Address, "address", "", "only this address or prefix, likewise")
	f.StringVar(&q.Reason, "reason", "", "only this reason of a drop or a pass")
	f.StringVar(&pcap, "pcap", "", "write the packets to this file (- for standard output) as pcapng, with what was decided as comment")
	return cmd
}

func (a *app) monitor(ctx context.Context, q api.MonitorQuery, pcap string) (err error) {
	show := a.showEvent
	listening := func() error {
		_, err := fmt.Fprintln(a.stderr, "listening; ^C ends it")
		return err
	}
	if pcap != "" {
		out := a.stdout
		if pcap != "-" {
			f, err := os.Create(pcap)
			if err != nil {
				return fmt.Errorf("write packets: %w", err)
			}
			defer func() {
				if cerr := f.Close(); err == nil && cerr != nil {
					err = fmt.Errorf("write packets: %w", cerr)
				}
			}()
			out = f
		}
		w, err := newPcapng(out)
		if err != nil {
			return fmt.Errorf("write packets: %w", err)
		}
		show = func(e *api.Event) error {
			if err := w.packet(e, eventComment(e)); err != nil {
				return fmt.Errorf("write packets: %w", err)
			}
			return nil
		}
	}
	first := true
	var lost uint64
	err = a.client().Monitor(ctx, q, func(m api.Monitored) error {
		if first {
			first = false
			return listening()
		}
		if m.Lost > 0 {
			lost += m.Lost
			if _, err := fmt.Fprintf(a.stderr, "%d events are lost: more come than can be told\n", m.Lost); err != nil {
				return err
			}
		}
		if m.Event == nil {
			return nil
		}
		return show(m.Event)
	})
	switch {
	case ctx.Err() != nil:
		return nil // ^C is how it ends
	case !first && errors.Is(err, client.ErrNoAgent):
		return errors.New("the agent has ended")
	}
	return a.explain(err)
}

// showEvent prints an event as a line, or as JSON on one line.
func (a *app) showEvent(e *api.Event) error {
	var line []byte
	var err error
	if a.output == "json" {
		line, err = json.Marshal(e)
	} else {
		line = []byte(eventLine(e))
	}
	if err == nil {
		_, err = a.stdout.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func eventLine(e *api.Event) string {
	verdict := e.Verdict
	if e.Reason != "" {
		verdict += " " + e.Reason
	}
	return fmt.Sprintf("%s %-24s %-14s %-12s %s", e.Time.Local().Format("15:04:05.000000"), verdict, e.Program, printable(e.Device), eventFacts(e))
}

// eventComment is what stands beside a packet in a file of packets.
func eventComment(e *api.Event) string {
	verdict := e.Verdict
	if e.Reason != "" {
		verdict += " " + e.Reason
	}
	return fmt.Sprintf("%s by %s on %s: %s", verdict, e.Program, printable(e.Device), eventFacts(e))
}

func eventFacts(e *api.Event) string {
	if e.Proto == "" {
		return fmt.Sprintf("%s %d bytes", etherName(e.EtherType), e.Length)
	}
	facts := e.Proto + " " + tuple(e.Original)
	if e.Translated != e.Original {
		facts += " as " + tuple(e.Translated)
	}
	if e.From != "" || e.To != "" {
		facts += fmt.Sprintf(" (%s to %s)", ends(e.From), ends(e.To))
	}
	if e.Path != "" {
		facts += " path " + e.Path
	}
	if e.Rule != "" {
		facts += fmt.Sprintf(" rule %q", printable(e.Rule))
	}
	return fmt.Sprintf("%s %d bytes", facts, e.Length)
}

func ends(name string) string {
	if name == "" {
		return "-"
	}
	return printable(name)
}

// etherName names what is most often not IPv4.
func etherName(t uint16) string {
	switch t {
	case 0x0800:
		return "ip"
	case 0x0806:
		return "arp"
	case 0x86dd:
		return "ipv6"
	case 0x8100, 0x88a8:
		return "vlan"
	}
	return fmt.Sprintf("ethertype 0x%04x", t)
}
