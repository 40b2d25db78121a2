package firewall

import (
	"context"
	"fmt"
)

// Rule is one rule or policy, or all rules of one nftables chain, that is not Docker's own.
type Rule struct {
	// Table is iptables' table ("filter"), the same in the older backend ("legacy filter"), nftables' family and table ("inet firewalld"), or
	// "ipsec".
	Table string
	Chain string
	// Text is the rule as iptables-save writes it behind the chain's name, or what can be said about a chain.
	Text string
}

func (r Rule) String() string { return r.Table + " " + r.Chain + ": " + r.Text }

// Report is what one look at netfilter found.
type Report struct {
	// Foreign are the rules that could decide over forwarded traffic and are not Docker's own, in the order of evaluation within a chain.
	Foreign []Rule
	// IPsec says that policies of it are among them.
	IPsec bool
	// Notes say what could not be looked at, and why that does no harm.
	Notes []string

	bridges map[string]bool
}

// Bridges are those that rules of Docker's name. The caller must not change them.
func (r Report) Bridges() map[string]bool { return r.bridges }

// DockerRules tells whether rules of Docker's name a bridge.
func (r Report) DockerRules(bridge string) bool { return r.bridges[bridge] }

// Inspect looks at the network namespace of the calling thread. It needs CAP_NET_ADMIN. Rules that exist and cannot be read are an error.
func Inspect(ctx context.Context) (Report, error) {
	report := Report{bridges: map[string]bool{}}
	chains, err := readNFTables()
	if err != nil {
		return Report{}, fmt.Errorf("read nftables: %w", err)
	}
	if chains == nil {
		report.Notes = append(report.Notes, "the kernel has no nf_tables: there are no rules in it")
	}
	told, err := saveNFTables(ctx, chains)
	if err != nil {
		return Report{}, err
	}
	report.addIPTables(told, "")
	old, err := saveLegacy(ctx)
	if err != nil {
		return Report{}, err
	}
	report.addIPTables(old, "legacy ")
	for _, c := range chains {
		if c.docker {
			for _, name := range c.bridges {
				report.bridges[name] = true
			}
			continue
		}
		if c.judged != "" && !(c.family == "ip" && told.has(c.table, c.name)) {
			report.Foreign = append(report.Foreign, Rule{Table: c.family + " " + c.table, Chain: c.name, Text: c.judged})
		}
	}
	policies, err := readIPsec()
	if err != nil {
		return Report{}, err
	}
	report.Foreign, report.IPsec = append(report.Foreign, policies...), len(policies) > 0
	return report, nil
}

// addIPTables adds what is in the tables of one of iptables' backends.
func (r *Report) addIPTables(s *ruleset, prefix string) {
	for name := range s.bridges {
		r.bridges[name] = true
	}
	for _, rule := range s.foreign() {
		rule.Table = prefix + rule.Table
		r.Foreign = append(r.Foreign, rule)
	}
}
