// Package parity holds ebpfnet to what Docker does. The same black-box cases run on four hosts: stock Docker, stock Docker without docker-proxy,
// ebpfnet over Docker's default rules, and ebpfnet under a Docker that writes no rules. What a case observes is what somebody on the network
// gets: an answer and the address that its sender saw, an error, a message by ICMP, a TTL. It never asks the product.
//
// A case whose four outcomes are not the same must stand in allowed.md, with the outcomes and the reason why ours is better; so must nothing
// else. docs/parity.md is the table that comes out; `go test ./tests/parity -update` writes it.
//
// The invariant: a case is one function for all columns, and does not know which one it runs in.
package parity
