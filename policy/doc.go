// Package policy is the brain: what the kernel and Docker say (Observed) and what the user asked for (Intent) go in, the exact content of
// the maps and the tables that the command line shows (Result) come out. The grammars of published ports live here too.
//
// The invariant: it is pure. No file, no socket, no clock and no goroutine; the same input gives the same output in the same order. What
// has to be remembered from one compilation to the next, the numbers that endpoints and bridges go by, is in Identities, which the caller
// holds.
//
// It imports maps for the shape of their content and bpf for their types, and must not import agent, loader, metrics or cmd.
package policy
