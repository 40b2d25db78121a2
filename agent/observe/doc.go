// Package observe sees what the host has: its bridges, uplinks and addresses, the network namespaces behind the bridges' veths, and
// Docker's containers and networks; and it tells when to look again.
//
// The invariant: it changes nothing, and it keeps no opinion. What it gives is a policy.Observed of one moment; what is to be done about it
// is decided elsewhere. It does not import package agent, maps, loader or bpf.
package observe
