// Package firewall looks at netfilter and IPsec: which of their rules could decide over forwarded IPv4 traffic and are not Docker's own, and which
// bridges have Docker's rules behind them.
//
// The invariant: it only reads. It loads no kernel module, makes no table, and runs a reader of iptables' rules only where such rules exist
// already. What it cannot understand it takes for someone else's rule, never for Docker's. It does not import package agent, maps, loader,
// policy or bpf.
package firewall
