// Package agent is the control plane: it sees what the host and Docker have (agent/observe), decides with package policy what the maps
// must hold, writes the difference with package maps, and has package loader put programs on devices. It answers the command line over a
// unix socket (agent/api).
//
// The invariant: one goroutine, the run loop, changes things. Requests and wake-ups queue for it; everyone else reads the snapshot that it
// published last, or counters in the kernel. The agent may die at any moment: programs and maps are pinned and go on, and a new agent
// takes over what it finds.
//
// It must not be imported by policy, maps, loader or metrics: data runs one way.
package agent
