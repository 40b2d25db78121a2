// Package maps is typed access to the datapath's maps. Sync makes the maps that the control plane writes what a State says, by writing only
// the difference; Flows, Expire and DeleteFlows work on the flow tables that the programs write; the rest reads counters and settings.
//
// The invariant: only one process writes State's maps (the agent's lock sees to it), and it does so through one Maps. So what was written
// last is known without asking the kernel, and Resync is for the case that somebody else has had a hand in it.
//
// It has no struct of its own for what is in a map: those are package bpf's. It must not import policy, agent, loader, metrics or cmd.
package maps
